"""The build hook of the wheel and of an installation in place: compiles `analysis/native` where there is a C compiler.

Without one the wheel is a pure one, and everything works with NumPy, in more time.
"""

import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

FOLDER = Path(__file__).resolve().parent / "analysis" / "native"
# Folders of the source tree that lie inside the package in a wheel. An installation in place reads them where they are,
# and can be built again by somebody who has deleted results/.
DATA = {"configs/base": "ablate/presets", "configs/clusters": "ablate/clusters", "results/paper": "ablate/paper"}
# The bits must be those of NumPy: no multiplication and addition in one step, no rules of arithmetic that do not hold.
FLAGS = ["-O3", "-std=c11", "-ffp-contract=off", "-fno-fast-math", "-fvisibility=hidden"]


class CompiledCore(BuildHookInterface):
    """Adds the compiled core to the wheel, and its tags, where it could be compiled."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Compile, and say in the log why not where that is not possible."""
        if self.target_name != "wheel":
            return
        if version != "editable":
            build_data["force_include"] |= DATA
        try:
            library = compile_core(FOLDER)
        except (Exception, SystemExit) as error:  # whatever is missing here, it must install
            self.app.display_warning(f"analysis/native is not compiled, NumPy does its work: {error}")
            for stale in FOLDER.glob("_core*.so"):
                stale.unlink()
            return
        build_data["pure_python"] = False
        build_data["tag"] = stable_tag()
        build_data["artifacts"].append(f"analysis/native/{library.name}")


def compile_core(folder: Path) -> Path:
    """Compile the C files of a folder into its module `_core`; raises where that is not possible."""
    from setuptools import Distribution, Extension
    from setuptools.command.build_ext import build_ext

    with tempfile.TemporaryDirectory() as temporary:
        extension = Extension(
            "_core",
            [str(path) for path in sorted(folder.glob("*.c"))],
            depends=[str(path) for path in folder.glob("*.h")],
            extra_compile_args=FLAGS,
            py_limited_api=True,
        )
        command = build_ext(Distribution({"name": "core", "ext_modules": [extension]}))
        command.build_lib, command.build_temp, command.force = temporary, temporary, True
        command.ensure_finalized()
        command.run()
        (built,) = Path(temporary).glob("_core*.so")
        check = "import sys; sys.path.insert(0, sys.argv[1]); import _core"
        subprocess.run([sys.executable, "-c", check, temporary], check=True)
        target = folder / built.name
        part = folder / f".{built.name}.part"
        part.write_bytes(built.read_bytes())
        part.chmod(0o755)
        part.replace(target)  # whole, while another process may have loaded the old one
        return target


def stable_tag() -> str:
    """The tag of a wheel that every Python from 3.11 on takes."""
    from packaging.tags import sys_tags

    platform = next(iter(sys_tags())).platform
    return f"cp311-abi3-{platform}"
