def pytest_addoption(parser):
    group = parser.getgroup("bench")
    group.addoption("--pixels", type=int, default=4096, help="of the synthetic map (default: 4096)")
    group.addoption("--value-channels", type=int, default=19, help="of its values (default: 19)")
    group.addoption("--parts", type=int, default=1, help="of test_fps: sub-maps N x N (default: 1)")
    group.addoption("--dtype", default="float16", help="of test_fps (default: float16)")
