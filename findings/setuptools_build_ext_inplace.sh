#!/usr/bin/env bash
# Package: setuptools 84.2.1.
#
# Expected: a build_ext of one's own sees in build_extension() whether it runs for `build_ext --inplace`, since
# self.inplace holds that option.
#
# Instead: build_ext.run() sets self.inplace to False for the time of the build and copies what it finds in build_lib
# afterwards, so that build_extension() never sees the option. Output seen:
#     python setup.py build_ext --inplace: inplace is True in run(), False in build_extension()
#     python setup.py build_ext: inplace is False in run(), False in build_extension()
#
# Why it matters: packages of custom kernels call CMake in build_extension() and choose the folder for operator
# libraries there, which are no Python extensions, so that nothing copies them afterwards. They go to build/, Python goes
# on loading the old ones from the tree, and a change of a kernel seems to have no effect. Read self.inplace in run(),
# before the call of super().

set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
"${PYTHON:-python3}" -m venv venv
venv/bin/pip install -q --disable-pip-version-check setuptools==84.2.1

cat >setup.py <<'PYTHON'
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext


class Build(build_ext):
    def run(self):
        self.told = bool(self.inplace)
        super().run()

    def build_extension(self, ext):
        Path("seen").write_text(f"inplace is {self.told} in run(), {bool(self.inplace)} in build_extension()")
        target = Path(self.get_ext_fullpath(ext.name))
        target.parent.mkdir(parents=True, exist_ok=True)
        target.touch()


setup(name="kernels", ext_modules=[Extension("kernels", [])], cmdclass={"build_ext": Build})
PYTHON

check() {  # the options, what must be seen
  venv/bin/python -I setup.py -q build_ext $1
  echo "python setup.py build_ext${1:+ $1}: $(cat seen)"
  if [ "$(cat seen)" != "$2" ]; then
    echo "The behavior has changed." >&2
    exit 1
  fi
}
check --inplace "inplace is True in run(), False in build_extension()"
check "" "inplace is False in run(), False in build_extension()"
