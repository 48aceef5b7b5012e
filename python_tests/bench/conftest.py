from python_tests.benchmark.conftest import clean_commit  # noqa: F401
