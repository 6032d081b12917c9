"""What a process can still get: of the machine, and of each control group around it."""

import sys
from pathlib import Path

import pytest

from relume.base.free_memory import bounds, page_cache, tightest
from tests.base.control_groups import GIB, Kernel


@pytest.fixture
def kernel(tmp_path: Path) -> Kernel:
    return Kernel(tmp_path)


def _free(kernel: Kernel) -> int:
    found = tightest(kernel.proc)
    assert found is not None
    return found.free + found.swap


def test_without_control_groups_the_machine_counts(kernel: Kernel) -> None:
    assert _free(kernel) == 60 * GIB
    kernel.machine(64 * GIB, 60 * GIB, swap=8 * GIB)
    assert _free(kernel) == 68 * GIB


def test_where_nothing_tells_nothing_is_known(tmp_path: Path) -> None:
    assert tightest(tmp_path) is None
    assert bounds(tmp_path) == []
    assert page_cache(tmp_path) == 0


@pytest.mark.parametrize("version", [1, 2])
def test_a_container_s_group_is_the_root_of_what_it_sees(kernel: Kernel, version: int) -> None:
    own = "/" if version == 2 else "/docker/abc"  # the first version shows the host's path
    kernel.mount(version, root=own, own=own)
    group = kernel.v2 if version == 2 else kernel.v1
    group("/", 4 * GIB, 3 * GIB)
    assert _free(kernel) == GIB


@pytest.mark.parametrize("version", [1, 2])
def test_the_tightest_of_nested_groups_counts(kernel: Kernel, version: int) -> None:
    kernel.mount(version, own="/pod/container")
    group = kernel.v2 if version == 2 else kernel.v1
    group("/pod/container", 8 * GIB, GIB)
    group("/pod", 9 * GIB, 7 * GIB)  # a neighbour in the same pod holds the rest
    group("/", None, 20 * GIB)
    assert _free(kernel) == 2 * GIB
    assert [each.total for each in bounds(kernel.proc)][1:3] == [8 * GIB, 9 * GIB]


@pytest.mark.parametrize("version", [1, 2])
def test_a_group_without_a_limit_leaves_it_to_the_machine(kernel: Kernel, version: int) -> None:
    kernel.mount(version, own="/a")
    (kernel.v2 if version == 2 else kernel.v1)("/a", None, 40 * GIB)
    found = tightest(kernel.proc)
    assert found is not None and (found.of, found.free) == ("this machine", 60 * GIB)


@pytest.mark.parametrize("version", [1, 2])
def test_the_page_cache_is_free(kernel: Kernel, version: int) -> None:
    kernel.mount(version, own="/a")
    (kernel.v2 if version == 2 else kernel.v1)("/a", 4 * GIB, 4 * GIB, cache=3 * GIB)
    assert _free(kernel) == 3 * GIB
    assert page_cache(kernel.proc) == 3 * GIB


def test_a_group_swaps_as_much_as_it_may_and_the_machine_has(kernel: Kernel) -> None:
    kernel.mount(2, own="/a")
    kernel.machine(64 * GIB, 60 * GIB, swap=8 * GIB)
    for swap, free in (({"max": 0, "current": 0}, 1), ({"max": 3 * GIB, "current": GIB}, 3)):
        kernel.v2("/a", 4 * GIB, 3 * GIB, **swap)
        assert _free(kernel) == free * GIB


def test_a_hierarchy_without_memory_and_a_group_outside_are_passed_over(kernel: Kernel) -> None:
    kernel.mount(2, own="/../other")  # a process that was moved out of its container's group
    assert _free(kernel) == 60 * GIB
    kernel.v2("/", 2 * GIB, GIB)
    assert _free(kernel) == GIB


def test_other_mounts_are_passed_over(kernel: Kernel) -> None:
    """Of groups that the process is not in, and at places that are no text."""
    kernel.mount(2, root="/docker/abc", own="/system.slice/me")
    kernel.v2("/", GIB, GIB)
    with (kernel.proc / "self/mountinfo").open("ab") as file:
        file.write(b"50 23 0:99 / /mnt/\xff rw - ext4 /dev/x rw\n")
    assert _free(kernel) == 60 * GIB
    kernel.mount(1, own="/mine")
    kernel.v1("/mine", 4 * GIB, GIB)
    assert _free(kernel) == 3 * GIB


@pytest.mark.skipif(sys.platform != "linux", reason="asks the kernel of Linux")
def test_this_machine_tells() -> None:
    found = bounds()
    assert found and all(0 <= each.free <= each.total for each in found)
