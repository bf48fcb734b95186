"""What pyproject.toml cannot say: the C extensions, which cffi builds, and packages whose folder has another name.

The folder of the tools is called `tools`; installed it is the package `ouroboros_tools`, because a package that is
called `tools` would get into everybody's way.
"""

from setuptools import find_packages, setup

LIBRARIES = find_packages(include=["ouroboros*", "irmd*", "ipcpd*"])
TOOLS = ["ouroboros_" + package for package in find_packages(include=["tools", "tools.*"])]

setup(
    packages=LIBRARIES + TOOLS,
    package_dir={"ouroboros_tools": "tools"},
    # The C extensions use the stable ABI (cffi's default): one wheel serves every CPython from here on.
    options={"bdist_wheel": {"py_limited_api": "cp311"}},
    cffi_modules=[
        "ouroboros/dataplane/build.py:ffi",
        "ipcpd/dataplane/build.py:ffi",
        "tools/olab/emulator/build.py:ffi",
    ],
)
