"""What a spec says, held against itself and against the host's files.

A flat list of small rules; each yields what it finds, none stops another.
"""

from __future__ import annotations

from collections.abc import Iterable

from nsrun.diag import MAX_SHOWN, Diagnostic, sort_key
from nsrun.spec import check_host as host
from nsrun.spec import check_mounts as mounts
from nsrun.spec import check_namespaces as namespaces
from nsrun.spec import check_network as network
from nsrun.spec import check_process as process
from nsrun.spec import check_resources as resources
from nsrun.spec.checking import Check
from nsrun.spec.model import Spec

CHECKS: tuple[Check, ...] = (
    process.name_is_allowed,
    namespaces.namespaces_are_listed_once,
    namespaces.a_namespace_is_joined_in_one_way,
    namespaces.offsets_are_for_a_new_time_namespace,
    namespaces.hostname_needs_uts,
    namespaces.idmap_needs_user,
    namespaces.network_needs_network,
    namespaces.file_system_needs_mount,
    namespaces.init_needs_pid,
    namespaces.idmapped_mount_needs_user,
    namespaces.sysctl_is_namespaced,
    namespaces.id_ranges_are_sound,
    network.network_is_set_up_in_a_new_namespace,
    network.names_need_a_place_for_their_files,
    network.interfaces_have_their_own_name,
    network.an_interface_has_what_its_type_needs,
    network.a_peer_is_in_one_place,
    network.routes_are_sound,
    network.a_next_hop_can_be_reached,
    network.what_is_translated_has_a_peer,
    network.ports_are_given_once,
    network.user_mode_stands_alone,
    mounts.a_mount_has_what_its_type_needs,
    mounts.the_root_is_not_mounted_over,
    mounts.a_file_system_of_a_namespace_needs_it,
    mounts.mount_options_are_known,
    mounts.mounts_do_not_hide_earlier_ones,
    mounts.proc_belongs_to_the_pid_namespace,
    process.hostname_fits,
    process.capability_sets_agree,
    process.soft_limit_is_within_the_hard_one,
    process.a_terminal_is_the_input,
    process.hooks_have_their_own_name,
    process.files_are_given_once,
    resources.a_device_is_limited_once,
    host.rootfs_exists,
    host.sources_exist,
    host.hooks_exist,
    host.a_pin_can_be_made,
    host.what_is_joined_is_of_its_kind,
)


def check(spec: Spec, *, skip: Iterable[str] = (), partial: Iterable[str] = ()) -> list[Diagnostic]:
    """Errors and warnings about ``spec``, sorted by place.

    ``skip``: top-level keys that could not be read; checks that look at them are left out.
    ``partial``: those that lack entries; only checks of single entries look at them.
    Looks at the host's files, and changes nothing. Ends with the first error that no Collector
    would show: what might be meant by a name is looked for in folders, 20,000 times otherwise.
    """
    unread, some = frozenset(skip), frozenset(partial)
    found: list[Diagnostic] = []
    errors = 0
    for rule in CHECKS:
        if not rule.holds_for(unread, some):
            continue
        for diagnostic in rule.run(spec):
            found.append(diagnostic)
            errors += diagnostic.is_error
            if errors > MAX_SHOWN:
                return sorted(found, key=sort_key)
    return sorted(found, key=sort_key)
