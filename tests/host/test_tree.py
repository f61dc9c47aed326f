"""The file tree of a program in bwrap, as bwrap is told to make it."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from vfab.host.confine.reach import Reach, reach_of_node
from vfab.host.confine.tree import Tree, tree_of
from vfab.model.devices import DeviceInfo
from vfab.model.manifest import manifest_from_dict
from vfab.protocols.zygotewire import HostSpec


def made(*read: Path | str, write: tuple[Path | str, ...] = (), devices: tuple[Path | str, ...] = ()) -> Tree:
    return tree_of(Reach(tuple(map(str, read)), tuple(map(str, write)), tuple(map(str, devices))))


def links_of(tree: Tree) -> dict[str, str]:
    at = [index for index, word in enumerate(tree.arguments) if word == "--symlink"]
    return {tree.arguments[index + 2]: tree.arguments[index + 1] for index in at}


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A folder whose own path has no links."""
    return tmp_path.resolve()


def test_names_that_are_links_are_made_again_and_what_they_lead_to_is_bound(place: Path) -> None:
    (place / "real" / "bin").mkdir(parents=True)
    (place / "real" / "bin" / "node22").write_text("")
    (place / "real" / "node").symlink_to("bin/node22")
    (place / "alternatives").mkdir()
    (place / "alternatives" / "node").symlink_to(place / "real" / "node")
    (place / "node").symlink_to("alternatives/../alternatives/node")
    tree = made(place / "node")
    own = {path: target for path, target in links_of(tree).items() if path.startswith(str(place))}
    assert own == {
        f"{place}/node": "alternatives/../alternatives/node",
        f"{place}/alternatives/node": f"{place}/real/node",
        f"{place}/real/node": "bin/node22",
    }
    assert {path for path in tree.bound if path.startswith(str(place))} == {f"{place}/real/bin/node22"}
    assert tree.has(str(place / "node")) and not tree.has(str(place / "real"))


def test_a_link_within_what_is_bound_comes_with_it(place: Path) -> None:
    (place / "lib").mkdir()
    (place / "lib" / "libx.so.1").write_text("")
    (place / "lib" / "libx.so").symlink_to("libx.so.1")
    tree = made(place / "lib", place / "lib" / "libx.so")
    assert not any(path.startswith(str(place)) for path in links_of(tree))
    assert f"{place}/lib" in tree.bound and f"{place}/lib/libx.so.1" not in tree.bound


def test_what_may_be_written_lies_over_what_may_be_read_and_not_the_other_way_round(place: Path) -> None:
    for name in ("plugin/state/tables", "plugin/code", "shared/within"):
        (place / name).mkdir(parents=True)
    tree = made(
        place / "plugin",
        place / "plugin" / "code",
        place / "plugin" / "state" / "tables",
        place / "shared" / "within",
        write=(place / "plugin" / "state",),
        devices=(place / "shared", place / "not-there"),
    )
    ours = {path: how for path, how in tree.bound.items() if path.startswith(str(place))}
    assert ours == {
        f"{place}/plugin": "--ro-bind",
        f"{place}/plugin/state": "--bind",
        f"{place}/shared": "--dev-bind",
    }
    order = [tree.arguments.index(path) for path in (f"{place}/plugin", f"{place}/plugin/state")]
    assert order == sorted(order), "what lies over it comes after it"
    assert tree.has(f"{place}/plugin/state/x", writable=True)
    assert not tree.has(f"{place}/plugin/code", writable=True)


def test_proc_and_dev_are_its_own_and_the_root_folder_is_closed_last(place: Path) -> None:
    tree = made("/proc/cpuinfo", "/proc", place)
    assert tree.arguments[-4:] == ("--proc", "/proc", "--remount-ro", "/")
    assert not any(path.startswith("/proc") for path in tree.bound)
    assert links_of(tree)["/dev/fd"] == "/proc/self/fd" and tree.bound["/dev/null"] == "--dev-bind"
    assert tree.top == {"proc", "dev", str(place).split("/")[1]}
    whole = made(devices=("/dev",))
    assert "/dev/fd" not in links_of(whole) and "/dev/null" not in whole.bound


def test_the_whole_tree_and_links_in_circles_are_refused(place: Path) -> None:
    with pytest.raises(OSError, match="the whole tree"):
        made("/")
    (place / "a").symlink_to("b")
    (place / "b").symlink_to("a")
    with pytest.raises(OSError, match="a: ") as caught:
        made(place / "a")
    assert caught.value.errno == errno.ELOOP


NODES = {
    "/opt/node-22/bin/node": "/opt/node-22",
    "/usr/bin/node": "/usr/bin/node",
    "/usr/local/bin/node": "/usr/local/bin/node",
    "/opt/bin/node": "/opt/bin/node",
    "/srv/node22/node": "/srv/node22",
}


@pytest.mark.parametrize("node", NODES)
def test_of_the_system_node_gets_its_own_folder_and_libraries(place: Path, node: str) -> None:
    data = {"name": "mine", "version": "1", "author": "a test", "description": "d", "driver_class": "driver.D"}
    device = DeviceInfo(id="d", bus="test", address="/dev/ttyUSB0")

    def reach(**permissions: object) -> Reach:
        manifest = manifest_from_dict({**data, "permissions": permissions})
        spec = HostSpec(folder=str(place), manifest=manifest, device=device, state_dir=f"{place}/state")
        return reach_of_node(spec, node, "/bridge")

    plain = reach()
    assert {NODES[node], "/bridge", str(place), "/usr/lib"} <= set(plain.read)
    assert not {"/usr", "/bin", "/etc/resolv.conf"} & set(plain.read)
    assert not any(path.startswith(("/proc", "/dev")) for path in plain.read)
    assert (plain.write, plain.devices) == ((f"{place}/state",), ("/dev/ttyUSB0",))
    asking = reach(files=["read:/opt/tables", "write:/srv/pictures"], subprocess=True, network="host")
    assert {"/opt/tables", "/usr", "/bin", "/etc/resolv.conf"} <= set(asking.read)
    assert "/srv/pictures" in asking.devices
    assert os.path.expanduser("~") not in asking.read  # noqa: PTH111
