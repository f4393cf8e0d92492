"""A small virtual machine: Debian's kernel, and this checkout with its interpreter in memory.

It has control groups of version 2 alone, and root with every right, whatever the machine outside
has. The initramfs is made of the files of this machine under their own paths: nothing is mounted
or shared, so an ordinary user can do it too. What runs inside writes to the serial console.

Sources: qemu(1), the kernel's Documentation/driver-api/early-userspace/buffer-format.rst.
"""

from __future__ import annotations

import os
import platform
import re
import selectors
import shutil
import stat
import subprocess
import sysconfig
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from tests.support.paths import PYTHON, ROOT, busybox

QEMU = "qemu-system-x86_64"
FOLDER = ROOT / "build/vm"
# Environment of what runs inside.
INSIDE = "NSRUN_VM"

_UP, _STATUS = "VM-UP", re.compile(r"^VM-STATUS (\d+)\s*$", re.MULTILINE)
# Seconds after which a machine under KVM that has written nothing is taken for hung.
_FIRST_SIGN = 10.0
_MEMORY = "768"
# What the interpreter's packages have that no test inside imports.
_HEAVY = re.compile(
    r"(pip|setuptools|pkg_resources|_distutils_hack|distutils-precedence|mypy|mypyc|ruff|librt"
    r"|ast_serialize|hypothesis"
    r"|rich|scikit_build_core|markdown_it|cmake|ninja|atheris|[0-9a-f]{20}__mypyc.*)([-.].*)?"
)
_UNUSED = re.compile(
    r"config-.*|test|tests|idlelib|lib2to3|pydoc_data|tkinter|ensurepip|turtledemo"
)
# Not busybox's sh, which takes its own setpriv before that on PATH.
_PROGRAMS = (
    "sh",
    "setpriv",
    "unshare",
    "mount",
    "umount",
    "newuidmap",
    "newgidmap",
    "strace",
    "prlimit",
)
_CHECKOUT = ("nsrun", "native", "schemas", "specs", "tests", "pyproject.toml")

_INIT = """\
#!/busybox sh
# pivot_root(2) cannot move the first root: the tree gets a mount of its own.
/busybox mount --bind /r /r
cd /r
/busybox mount --move . /
exec /busybox chroot . /bin/sh /vm/start
"""
_START = f"""\
echo {_UP}
export PATH=/usr/sbin:/usr/bin:/sbin:/bin {INSIDE}=1 NSRUN_TEST_TIMEOUT=240
export HOME=/root PYTHONDONTWRITEBYTECODE=1
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs dev /dev
mkdir -p /dev/pts /dev/shm
mount -t devpts -o newinstance,ptmxmode=0666,mode=0620,gid=5 devpts /dev/pts
# A checkout below one of them would be hidden: there the first root, in memory too, serves.
for at in /dev/shm /run /tmp
do
    case {ROOT}/ in
        $at/*) chmod 1777 $at;;
        *) mount -t tmpfs -o mode=1777 tmpfs $at;;
    esac
done
ln -sf /proc/self/fd /dev/fd
mount -t cgroup2 cgroup2 /sys/fs/cgroup
ip link set lo up
hostname vm
for module in $(cat /vm/modules/order)
do insmod /vm/modules/$module $(cat /vm/modules/$module.options)
done
cd {ROOT}
/bin/sh /vm/command </dev/null
status=$?
echo; echo VM-STATUS $status
reboot -f
"""
_ETC = {
    "passwd": "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534::/:/bin/false\n",
    "group": "root:x:0:\ntty:x:5:\nnogroup:x:65534:\n",
    "subuid": "",
    "subgid": "",
    "hosts": "127.0.0.1 localhost\n",
}
# Two disks in memory, of 64 MiB; overlay for a rootfs of layers.
_OPTIONS = {"brd.ko": "rd_nr=2 rd_size=65536"}
_ORDER = ("brd.ko", "overlay.ko")


def lacks() -> str:
    """Why there can be no virtual machine here, "" where there can."""
    if platform.machine() != "x86_64":
        return f"the virtual machine is an x86_64, and this is an {platform.machine()}"
    if shutil.which(QEMU) is None:
        return f"no {QEMU} on PATH (Debian: qemu-system-x86)"
    if not (FOLDER / "vmlinuz").exists():
        return "no kernel in build/vm: tools/vm_kernel fetches Debian's"
    return ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """``status``: of the command inside, None where the machine ended without telling it.
    ``seconds``: from the start of qemu to its end."""

    status: int | None
    console: str
    accelerator: str
    seconds: float


def run(command: str, folder: Path, *, timeout: float) -> Ended:
    """Run a shell's ``command`` inside, in the checkout; ``folder`` is for the initramfs.

    ``timeout`` in seconds; a machine that takes longer is killed. KVM is taken where it works.
    """
    image = folder / "initramfs"
    with image.open("wb") as file:
        for chunk in _initramfs(command):
            file.write(chunk)
    for accelerator in ("kvm", "tcg") if _may_use_kvm() else ("tcg",):
        ended = _boot(image, accelerator, timeout)
        if accelerator == "tcg" or _UP in ended.console:
            return ended
        _note_broken_kvm()
    raise AssertionError


# --- the machine -------------------------------------------------------------------------------


def _boot(image: Path, accelerator: str, timeout: float) -> Ended:
    # Without ARCH_CAPABILITIES: an outer virtual machine may show it and refuse to set it.
    cpu = "host,-arch-capabilities" if accelerator == "kvm" else "qemu64"
    argv = [
        *(QEMU, "-M", "pc", "-accel", accelerator, "-cpu", cpu, "-smp", "2", "-m", _MEMORY),
        *("-nodefaults", "-no-user-config", "-display", "none", "-no-reboot"),
        *("-serial", "stdio", "-kernel", str(FOLDER / "vmlinuz"), "-initrd", str(image)),
        *(
            "-append",
            "console=ttyS0 quiet panic=-1 mitigations=off",
        ),
    ]
    began = time.monotonic()
    process = subprocess.Popen(
        argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    try:
        console = "".join(_listen(process, began, accelerator, timeout))
    finally:
        process.kill()
        process.wait()
    found = _STATUS.search(console)
    return Ended(
        status=int(found[1]) if found else None,
        console=console,
        accelerator=accelerator,
        seconds=time.monotonic() - began,
    )


def _listen(
    process: subprocess.Popen[bytes], began: float, accelerator: str, timeout: float
) -> Iterator[str]:
    """What the console says, until its end, the timeout, or no first sign under KVM."""
    assert process.stdout is not None
    shown = os.environ.get("NSRUN_VM_SHOW") == "1"
    is_up = accelerator != "kvm"
    with selectors.DefaultSelector() as selector:
        selector.register(process.stdout, selectors.EVENT_READ)
        while (left := began + (timeout if is_up else _FIRST_SIGN) - time.monotonic()) > 0:
            if not selector.select(left):
                continue
            data = os.read(process.stdout.fileno(), 65536)
            if not data:
                return
            text = data.decode("utf-8", "replace").replace("\r\n", "\n")
            is_up = is_up or _UP in text
            if shown:
                print(text, end="", flush=True)
            yield text


def _may_use_kvm() -> bool:
    return os.access("/dev/kvm", os.R_OK | os.W_OK) and not _broken_kvm().exists()


def _broken_kvm() -> Path:
    """A note for this boot: that a machine under KVM does not get anywhere."""
    boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    return FOLDER / f"no-kvm-{boot}"


def _note_broken_kvm() -> None:
    for old in FOLDER.glob("no-kvm-*"):
        old.unlink()
    _broken_kvm().touch()


# --- its files ---------------------------------------------------------------------------------


def _initramfs(command: str) -> Iterator[bytes]:
    archive = _Archive()
    yield from archive.text("init", _INIT, 0o755)
    yield from archive.file(Path(busybox()), "busybox")
    for name in ("dev", "proc", "sys", "tmp", "run", "root", "mnt", "srv", "var", "home"):
        yield from archive.folder(f"r/{name}")
    for top in (Path("/bin"), Path("/sbin"), Path("/lib"), Path("/lib64")):
        if top.is_symlink():
            yield from archive.link(f"r{top}", os.readlink(top))
    yield from archive.text("r/vm/start", _START)
    yield from archive.text("r/vm/command", command)
    for name, text in _ETC.items():
        yield from archive.text(f"r/etc/{name}", text)
    yield from _modules(archive)
    files = [*_programs(), *_interpreter(), *_checkout()]
    files += _libraries(files)
    for path in files:
        yield from archive.here(path)
    yield from _applets(archive)
    yield from archive.end()


def _modules(archive: _Archive) -> Iterator[bytes]:
    folder = FOLDER / "modules"
    names = [name for name in _ORDER if (folder / name).exists()]
    yield from archive.text("r/vm/modules/order", "\n".join(names))
    for name in names:
        yield from archive.file(folder / name, f"r/vm/modules/{name}")
        yield from archive.text(f"r/vm/modules/{name}.options", _OPTIONS.get(name, ""))


def _applets(archive: _Archive) -> Iterator[bytes]:
    """busybox under its names where no program of the machine has taken one."""
    yield from archive.here(busybox())
    listed = subprocess.run([busybox(), "--list"], check=True, capture_output=True, text=True)
    folders = [Path(folder).resolve() for folder in ("/usr/sbin", "/usr/bin", "/sbin", "/bin")]
    for name in listed.stdout.split():
        if not any(f"r{folder}/{name}" in archive.names for folder in folders):
            yield from archive.link(f"r{folders[-1]}/{name}", str(busybox()))


def _programs() -> Iterator[Path]:
    for name in _PROGRAMS:
        found = shutil.which(name, path="/usr/sbin:/usr/bin:/sbin:/bin")
        if found:
            yield from _chain(Path(found))


def _interpreter() -> Iterator[Path]:
    """.venv's and the one it leads to, with the standard library."""
    venv = Path(PYTHON).parent.parent
    yield venv / "pyvenv.cfg"
    for name in ("python", "python3", "nsrun", "nsrun-python"):
        yield from _chain(venv / "bin" / name)
    yield from _chain(Path(PYTHON))
    library = Path(sysconfig.get_path("stdlib"))
    yield from _tree(library, _UNUSED)
    yield from _tree(Path(sysconfig.get_path("purelib")), _HEAVY)
    yield from map(Path, _loaded_by_name())


def _checkout() -> Iterator[Path]:
    for name in _CHECKOUT:
        path = ROOT / name
        yield from _tree(path, re.compile(r"fuzz|golden")) if path.is_dir() else (path,)


def _tree(top: Path, without: re.Pattern[str]) -> Iterator[Path]:
    """Every file below, but for folders and files at the top that ``without`` names."""
    for folder, names, files in os.walk(top):
        at_top = Path(folder) == top
        if at_top:
            names[:] = [name for name in names if not without.fullmatch(name)]
        for name in (*files, *(name for name in names if Path(folder, name).is_symlink())):
            is_other = name.endswith(".pyc") and ".opt-" in name
            if not is_other and not (at_top and without.fullmatch(name)):
                yield Path(folder, name)


def _chain(path: Path) -> Iterator[Path]:
    """A path, and every path that it leads to."""
    yield path
    while path.is_symlink():
        path = Path(os.path.normpath(path.parent / path.readlink()))
        yield path


def _libraries(files: Iterable[Path]) -> list[Path]:
    """What the loader of the machine would load for them (ldd(1)), with its links."""
    programs = [str(path) for path in files if _is_elf(path)]
    told = subprocess.run(["ldd", *programs], capture_output=True, text=True, check=False).stdout
    paths = {Path(path) for path in re.findall(r"(?:=>\s|^\s)(/\S+) \(0x", told, re.MULTILINE)}
    return sorted({step for path in paths for step in _chain(path)})


def _loaded_by_name() -> list[str]:
    """The library that no program is linked to (pyseccomp)."""
    listed = subprocess.run(
        ["/sbin/ldconfig", "--print-cache"], capture_output=True, text=True, check=True
    )
    names = re.findall(r"=> (/\S+)", listed.stdout)
    return [str(step) for name in names if "libseccomp" in name for step in _chain(Path(name))]


def _is_elf(path: Path) -> bool:
    if path.is_symlink() or path.suffix in (".py", ".pyc", ".pyi"):
        return False
    with path.open("rb") as file:
        return file.read(4) == b"\x7fELF"


@dataclass(slots=True)
class _Archive:
    """A cpio archive in the format "newc"; ``names`` are those that are in it already."""

    names: set[str] = field(default_factory=set)

    def text(self, name: str, text: str, mode: int = 0o644) -> Iterator[bytes]:
        yield from self._entry(name, stat.S_IFREG | mode, text.encode(), 0)

    def folder(self, name: str) -> Iterator[bytes]:
        yield from self._entry(name, stat.S_IFDIR | 0o755, b"", 0)

    def link(self, name: str, target: str) -> Iterator[bytes]:
        yield from self._entry(name, stat.S_IFLNK | 0o777, target.encode(), 0)

    def here(self, path: Path) -> Iterator[bytes]:
        """A file of this machine, under its own path."""
        # /bin is /usr/bin, on a Debian of today: a link on the way is followed, the last is not.
        place = path.parent.resolve() / path.name
        yield from self.file(place, f"r{place}")

    def file(self, place: Path, name: str) -> Iterator[bytes]:
        status = place.lstat()
        linked = stat.S_ISLNK(status.st_mode)
        data = os.readlink(place).encode() if linked else place.read_bytes()
        yield from self._entry(name, status.st_mode, data, int(status.st_mtime))

    def end(self) -> Iterator[bytes]:
        yield from self._entry("TRAILER!!!", 0, b"", 0)

    def _entry(self, name: str, mode: int, data: bytes, mtime: int) -> Iterator[bytes]:
        if name in self.names:
            return
        above = name.rpartition("/")[0]
        if above and above not in self.names:
            yield from self.folder(above)
        self.names.add(name)
        encoded = name.encode() + b"\0"
        # ino mode uid gid nlink mtime filesize devmajor devminor rdevmajor rdevminor namesize check
        numbers = (len(self.names), mode, 0, 0, 1, mtime, len(data), 0, 0, 0, 0, len(encoded), 0)
        header = b"070701" + b"".join(b"%08X" % number for number in numbers) + encoded
        yield header + bytes(-len(header) % 4) + data + bytes(-len(data) % 4)
