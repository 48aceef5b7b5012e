def pytest_addoption(parser):
    group = parser.getgroup("bench")
    group.addoption("--pixels", type=int, default=4096, help="of the synthetic map (default: 4096)")
    group.addoption("--value-channels", type=int, default=19, help="of its values (default: 19)")
