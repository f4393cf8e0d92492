"""Every check: a spec that breaks it, and the nearest one that does not."""

# ruff: noqa: E501 -- a case of a table is read on one line

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from nsrun.diag import Diagnostic, NsrunError, Severity
from nsrun.spec import check_host
from nsrun.spec.check import CHECKS, check
from nsrun.spec.checking import Check
from nsrun.spec.document import parse_document
from nsrun.spec.load import load_document
from nsrun.spec.model import IdMap, Namespace, NamespaceType, Spec


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("rootfs", "data", "up", "wk"):
        (tmp_path / name).mkdir()
    (tmp_path / "file").write_text("")
    (tmp_path / "run").write_text("#!/bin/sh\n")
    (tmp_path / "run").chmod(0o755)
    os.mkfifo(tmp_path / "fifo")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def found(text: str) -> list[Diagnostic]:
    document = parse_document(f"command: [x]\n{text}", "spec.yaml")
    try:
        return list(load_document(document)[1])
    except NsrunError as error:
        return list(error.diagnostics)


# name of the check -> (breaks it, code, path, keeps it)
CASES: list[tuple[str, str, str, str, str]] = [
    ("file_system_needs_mount", "devices: [/dev/null]", "NS301", "devices", "namespaces: [mount]\ndevices: [/dev/null]"),
    ("a_device_is_limited_once", "resources: {io: [{device: /dev/a, read_bps: 1}, {device: /dev/a, read_iops: 1}]}",
     "NS318", "resources.io[1].device", "resources: {io: [{device: /dev/a, read_bps: 1}, {device: /dev/b, read_bps: 1}]}"),
    ("a_device_is_limited_once", "resources: {io: [{device: /dev/a}]}", "NS318", "resources.io[0]",
     "resources: {io: [{device: /dev/a, write_bps: 1k}]}"),
    ("hostname_needs_uts", "hostname: a", "NS301", "hostname", "namespaces: [uts]\nhostname: a"),
    ("hostname_needs_uts", "domainname: a", "NS301", "domainname", "namespaces: [uts]\ndomainname: a"),
    ("idmap_needs_user", "idmap: root", "NS301", "idmap", "namespaces: [user]\nidmap: root"),
    ("idmap_needs_user", "namespaces: [{type: user, path: /proc/self/ns/user}]\nidmap: root", "NS318", "idmap",
     "namespaces: [{type: user, path: /proc/self/ns/user}]"),
    ("network_needs_network", "network: {}", "NS301", "network", "namespaces: [network]\nnetwork: {}"),
    *(
        (name, f"namespaces: [network]\nnetwork: {{{bad}}}", code, f"network{path}",
         f"namespaces: [network]\nnetwork: {{{good}}}")
        for name, code, bad, path, good in (
            ("interfaces_have_their_own_name", "NS316", "interfaces: [{name: a, type: dummy}, {name: a, type: bridge}]",
             ".interfaces[1].name", "interfaces: [{name: a, type: dummy}, {name: b, type: bridge}]"),
            ("interfaces_have_their_own_name", "NS316", "interfaces: [{name: lo, type: dummy}]", ".interfaces[0].name",
             "interfaces: [{name: lo0, type: dummy}]"),
            ("interfaces_have_their_own_name", "NS316", "interfaces: [{name: a, type: veth, peer: {name: v}}, "
             "{name: b, type: veth, peer: {name: v}}]", ".interfaces[1].peer.name",
             "interfaces: [{name: a, type: veth, peer: {name: v}}, {name: b, type: veth, peer: {name: v, netns: /n}}]"),
            ("interfaces_have_their_own_name", "NS316", "interfaces: [{name: a, type: veth, peer: {name: v, container: c}}, "
             "{name: b, type: veth, peer: {name: v, container: c}}]", ".interfaces[1].peer.name",
             "interfaces: [{name: a, type: veth, peer: {name: v, container: c}}, "
             "{name: v, type: veth, peer: {name: v, container: d}}]"),
            ("interfaces_have_their_own_name", "NS318", "interfaces: [{name: a, type: physical, parent: p}, "
             "{name: p, type: physical}]", ".interfaces[1].name",
             "interfaces: [{name: a, type: physical, parent: p}, {name: p, type: macvlan, parent: q}]"),
            ("interfaces_have_their_own_name", "NS318", "interfaces: [{name: p, type: physical}, "
             "{name: a, type: physical, parent: p}]", ".interfaces[1].parent",
             "interfaces: [{name: p, type: physical}, {name: a, type: physical, parent: q}]"),
            *(
                ("an_interface_has_what_its_type_needs", "NS318", f"interfaces: [{{name: a, type: {kind}, {key}: {value}}}]",
                 f".interfaces[0].{key}", f"interfaces: [{{name: a, type: {good}, {key}: {value}}}]")
                for kind, key, value, good in (
                    ("ipvlan, parent: p", "mac", "02:00:00:00:00:01", "macvlan, parent: p"),
                    ("physical", "mac", "02:00:00:00:00:01", "bridge"), ("physical", "mtu", "1400", "dummy"),
                    ("dummy", "peer", "{}", "veth"), ("bridge", "peer", "{name: v}", "veth"),
                    ("macvlan, parent: p", "peer", "{bridge: b}", "veth"), ("veth", "parent", "p", "physical"),
                    ("dummy", "parent", "p", "macvlan"), ("bridge", "id", "7", "vlan, parent: p"),
                    ("macvlan, parent: p", "id", "7", "vlan, parent: p"), ("veth", "mode", "bridge", "macvlan, parent: p"),
                    ("vlan, parent: p, id: 7", "mode", "l2", "ipvlan, parent: p"),
                )
            ),
            *(
                ("an_interface_has_what_its_type_needs", "NS204", f"interfaces: [{{name: a, type: {bad}}}]",
                 ".interfaces[0]", f"interfaces: [{{name: a, type: {good}}}]")
                for bad, good in (
                    ("macvlan", "macvlan, parent: p"), ("ipvlan", "ipvlan, parent: p"),
                    ("vlan, id: 7", "vlan, parent: p, id: 7"), ("vlan, parent: p", "vlan, parent: p, id: 4094"),
                )
            ),
            *(
                ("an_interface_has_what_its_type_needs", "NS203", f"interfaces: [{{name: a, type: {kind}, parent: p, mode: {bad}}}]",
                 ".interfaces[0].mode", f"interfaces: [{{name: a, type: {kind}, parent: p, mode: {good}}}]")
                for kind, bad, good in (
                    ("macvlan", "l2", "bridge"), ("macvlan", "l3", "private"), ("macvlan", "l3s", "vepa"),
                    ("ipvlan", "bridge", "l2"), ("ipvlan", "vepa", "l3"), ("ipvlan", "passthru", "l3s"),
                )
            ),
            ("an_interface_has_what_its_type_needs", "NS318", "interfaces: [{name: a, type: veth, addresses: [10.0.0.2/24, 10.0.0.2/24]}]",
             ".interfaces[0].addresses[1]", "interfaces: [{name: a, type: veth, addresses: [10.0.0.2/24, 10.0.0.3/24]}]"),
            ("an_interface_has_what_its_type_needs", "NS318", "interfaces: [{name: a, type: veth, addresses: ['fd00::2/64', 'fd00:0::2/48']}]",
             ".interfaces[0].addresses[1]", "interfaces: [{name: a, type: veth, addresses: ['fd00::2/64', 'fd00::3/64']}]"),
            ("an_interface_has_what_its_type_needs", "NS318", "interfaces: [{name: a, type: veth, addresses: [10.0.0.2/24], "
             "peer: {addresses: [10.0.0.2/24]}}]", ".interfaces[0].peer.addresses[0]",
             "interfaces: [{name: a, type: veth, addresses: [10.0.0.2/24], peer: {addresses: [10.0.0.1/24]}}]"),
            ("an_interface_has_what_its_type_needs", "NS318", "interfaces: [{name: a, type: dummy, mtu: 1279, addresses: ['fd00::2/64']}]",
             ".interfaces[0].addresses[0]", "interfaces: [{name: a, type: dummy, mtu: 1280, addresses: ['fd00::2/64']}]"),
            ("an_interface_has_what_its_type_needs", "NS318", "interfaces: [{name: a, type: veth, mtu: 1279, "
             "peer: {addresses: ['fd00::2/64']}}]", ".interfaces[0].peer.addresses[0]",
             "interfaces: [{name: a, type: veth, mtu: 68, peer: {addresses: [10.0.0.1/24]}}]"),
            ("a_peer_is_in_one_place", "NS318", "interfaces: [{name: a, type: veth, peer: {name: v, bridge: b, netns: /n}}]",
             ".interfaces[0].peer.netns", "interfaces: [{name: a, type: veth, peer: {name: v, bridge: b}}]"),
            ("a_peer_is_in_one_place", "NS318", "interfaces: [{name: a, type: veth, peer: {name: v, netns: /n, container: c}}]",
             ".interfaces[0].peer.container", "interfaces: [{name: a, type: veth, peer: {name: v, netns: /n}}]"),
            ("a_peer_is_in_one_place", "NS204", "interfaces: [{name: a, type: veth, peer: {netns: /n}}]",
             ".interfaces[0].peer.netns", "interfaces: [{name: a, type: veth, peer: {bridge: b}}]"),
            ("a_peer_is_in_one_place", "NS204", "interfaces: [{name: a, type: veth, peer: {container: c}}]",
             ".interfaces[0].peer.container", "interfaces: [{name: a, type: veth, peer: {name: v, container: c}}]"),
            ("a_peer_is_in_one_place", "NS316", "interfaces: [{name: a, type: veth, peer: {name: v, container: ../c}}]",
             ".interfaces[0].peer.container", "interfaces: [{name: a, type: veth, peer: {name: v, container: c-1.x}}]"),
            ("routes_are_sound", "NS204", "routes: [{to: 10.9.0.0/16}]", ".routes[0]", "routes: [{to: 10.9.0.0/16, dev: lo}]"),
            ("routes_are_sound", "NS318", "routes: [{to: '::/0', via: 10.0.0.1}]", ".routes[0].via",
             "interfaces: [{name: a, type: veth, addresses: ['fd00::2/64']}], routes: [{to: '::/0', via: 'fd00::1'}]"),
            ("routes_are_sound", "NS318", "routes: [{to: 10.9.0.0/16, via: 'fd00::1'}]", ".routes[0].via",
             "interfaces: [{name: a, type: veth, addresses: ['fd00::2/64']}], routes: [{to: default, via: 'fd00::1'}]"),
            ("routes_are_sound", "NS318", "routes: [{to: 10.9.0.0/16, dev: a}]", ".routes[0].dev",
             "interfaces: [{name: a, type: veth}], routes: [{to: 10.9.0.0/16, dev: a}]"),
            ("routes_are_sound", "NS318", "interfaces: [{name: a, type: veth, up: false}], routes: [{to: 10.9.0.0/16, dev: a}]",
             ".routes[0].dev", "interfaces: [{name: a, type: veth, up: true}], routes: [{to: 10.9.0.0/16, dev: a}]"),
            ("routes_are_sound", "NS318", "loopback: false, routes: [{to: 10.9.0.0/16, dev: lo}]", ".routes[0].dev",
             "loopback: false, routes: [{to: 10.9.0.0/16, type: blackhole}]"),
            ("routes_are_sound", "NS318", "routes: [{to: 10.9.0.0/16, via: 10.0.0.1, on_link: true}]", ".routes[0].on_link",
             "interfaces: [{name: a, type: veth}], routes: [{to: 10.9.0.0/16, via: 10.0.0.1, dev: a, on_link: true}]"),
            ("routes_are_sound", "NS318", "routes: [{to: 10.9.0.0/16, dev: lo, on_link: true}]", ".routes[0].on_link",
             "routes: [{to: 10.9.0.0/16, dev: lo, on_link: false}]"),
            *(
                ("routes_are_sound", "NS318", f"routes: [{{to: default, type: {kind}, {key}: {value}}}]", f".routes[0].{key}",
                 f"routes: [{{to: default, type: {kind}, metric: 7}}]")
                for kind, key, value in (("blackhole", "via", "10.0.0.1"), ("unreachable", "dev", "lo"),
                                         ("prohibit", "on_link", "true"))
            ),
            ("routes_are_sound", "NS318", "routes: [{to: default, dev: lo}, {to: default, type: blackhole}]", ".routes[1]",
             "routes: [{to: default, dev: lo}, {to: default, type: blackhole, metric: 1}, {to: '::/0', dev: lo}]"),
            ("routes_are_sound", "NS318", "routes: [{to: '::/0', dev: lo}, {to: '::/0', dev: lo, metric: 1024}]", ".routes[1]",
             "routes: [{to: '::/0', dev: lo}, {to: '::/0', dev: lo, metric: 1025}]"),
            ("routes_are_sound", "NS318", "interfaces: [{name: a, type: veth, addresses: [10.0.0.2/24]}], "
             "routes: [{to: 10.0.0.0/24, dev: a}]", ".routes[0]",
             "interfaces: [{name: a, type: veth, addresses: [10.0.0.2/32]}], routes: [{to: 10.0.0.2/32, dev: a}, {to: 10.0.0.0/24, dev: a}]"),
            ("a_next_hop_can_be_reached", "NS318", "interfaces: [{name: a, type: veth, addresses: [10.0.0.2/24]}], "
             "routes: [{to: default, via: 10.0.1.1}]", ".routes[0].via",
             "interfaces: [{name: a, type: veth, addresses: [10.0.0.2/24]}], routes: [{to: default, via: 10.0.0.1}]"),
            ("a_next_hop_can_be_reached", "NS318", "interfaces: [{name: a, type: veth, addresses: [10.0.0.2/24], up: false}], "
             "routes: [{to: default, via: 10.0.0.1}]", ".routes[0].via",
             "interfaces: [{name: a, type: veth}], routes: [{to: default, via: 10.0.0.1, dev: a, on_link: true}]"),
            ("a_next_hop_can_be_reached", "NS318", "interfaces: [{name: a, type: veth, addresses: [10.0.0.2/24]}, {name: b, type: veth}], "
             "routes: [{to: default, via: 10.0.0.1, dev: b}]", ".routes[0].via",
             "interfaces: [{name: a, type: veth, addresses: [10.0.0.2/24]}, {name: b, type: veth}], "
             "routes: [{to: default, via: 10.0.0.1, dev: a}]"),
            ("a_next_hop_can_be_reached", "NS318", "interfaces: [{name: a, type: veth}], "
             "routes: [{to: default, via: 10.0.0.1}, {to: 10.0.0.1, dev: a}]", ".routes[0].via",
             "interfaces: [{name: a, type: veth}], routes: [{to: 10.0.0.1, dev: a}, {to: default, via: 10.0.0.1}]"),
            ("a_next_hop_can_be_reached", "NS318", "interfaces: [{name: a, type: veth, addresses: ['fd00::2/64']}], "
             "routes: [{to: default, via: 'fd00:1::1'}]", ".routes[0].via",
             "interfaces: [{name: a, type: veth, addresses: ['fd00::2/64']}], routes: [{to: default, via: 'fd00::1', dev: a}]"),
            ("a_next_hop_can_be_reached", "NS318", "interfaces: [{name: a, type: veth, addresses: [10.0.0.2/24]}], "
             "routes: [{to: default, via: 10.0.0.2}]", ".routes[0].via",
             "interfaces: [{name: a, type: veth, addresses: [10.0.0.2/31]}], routes: [{to: default, via: 10.0.0.3}]"),
            ("a_next_hop_can_be_reached", "NS204", "interfaces: [{name: a, type: veth}], routes: [{to: default, via: 'fe80::1'}]",
             ".routes[0].via", "interfaces: [{name: a, type: veth}], routes: [{to: default, via: 'fe80::1', dev: a}]"),
            ("what_is_translated_has_a_peer", "NS318", "masquerade: true", ".masquerade",
             "masquerade: true, interfaces: [{name: a, type: veth, addresses: [10.0.0.2/24]}]"),
            ("what_is_translated_has_a_peer", "NS318", "ports: ['80:80'], interfaces: [{name: a, type: dummy, addresses: [10.0.0.2/24]}]",
             ".ports", "ports: ['80:80'], interfaces: [{name: a, type: veth, addresses: [10.0.0.2/24], peer: {bridge: b}}]"),
            ("what_is_translated_has_a_peer", "NS318", "ports: ['80:80'], interfaces: [{name: a, type: veth, "
             "addresses: [10.0.0.2/24], peer: {name: v, netns: /n}}]", ".ports", "ports: ['80:80'], mode: user"),
            ("what_is_translated_has_a_peer", "NS318", "ports: ['80:80'], interfaces: [{name: a, type: veth}]", ".ports",
             "masquerade: false, ports: [], interfaces: [{name: a, type: veth}]"),
            ("what_is_translated_has_a_peer", "NS318", "masquerade: true, interfaces: [{name: a, type: veth}]", ".masquerade",
             "masquerade: true, interfaces: [{name: a, type: veth}, {name: b, type: veth, addresses: ['fd00::2/64']}]"),
            ("what_is_translated_has_a_peer", "NS318", "ports: ['[::1]:80:80'], interfaces: [{name: a, type: veth, addresses: [10.0.0.2/24]}]",
             ".ports[0]", "ports: ['[::1]:80:80'], interfaces: [{name: a, type: veth, addresses: ['fd00::2/64']}]"),
            ("what_is_translated_has_a_peer", "NS318", "ports: ['127.0.0.1:80:80'], interfaces: [{name: a, type: veth, addresses: ['fd00::2/64']}]",
             ".ports[0]", "ports: ['80:80'], interfaces: [{name: a, type: veth, addresses: ['fd00::2/64']}]"),
            *(
                ("ports_are_given_once", "NS318", f"mode: user, ports: [{bad}]", ".ports[1]", f"mode: user, ports: [{good}]")
                for bad, good in (
                    ("'80:80', '80:81'", "'80:80', '81:80'"), ("'80:80', '80:80/tcp'", "'80:80', '80:80/udp'"),
                    ("'80-90:80-90', '90:1'", "'80-90:80-90', '91:1', '79:1'"),
                    ("'90:1', '80-90:80-90'", "'90:1', '80-89:80-89'"),
                    ("'80:80', '127.0.0.1:80:80'", "'127.0.0.2:80:80', '127.0.0.1:80:80'"),
                    ("'[::1]:80:80', '80:80'", "'[::1]:80:80', '127.0.0.1:80:80'"),
                    ("'0.0.0.0:80:80', '127.0.0.1:80:80'", "'0.0.0.0:80:80', '[::]:80:80'"),
                    ("'[::1]:80:80', '[0::1]:80:80'", "'[::1]:80:80', '[::2]:80:80'"),
                )
            ),
            *(
                ("user_mode_stands_alone", "NS318", f"mode: user, {bad}", f".{bad.partition(':')[0]}", good)
                for bad, good in (
                    ("interfaces: [{name: a, type: dummy}]", "mode: user, interfaces: []"),
                    ("routes: [{to: default, type: blackhole}]", "mode: user, routes: []"),
                    ("masquerade: true", "mode: user, masquerade: false, ports: ['80:80']"),
                    ("loopback: false", "mode: user, loopback: true"),
                )
            ),
        )
    ),
    *(
        ("network_is_set_up_in_a_new_namespace", f"namespaces: [{{type: network, path: /proc/self/ns/net}}]\nnetwork: {{{bad}}}",
         "NS301", f"network.{bad.partition(':')[0]}",
         f"namespaces: [{{type: network, path: /proc/self/ns/net}}]\nnetwork: {{{good}}}")
        for bad, good in (
            ("interfaces: [{name: a, type: dummy}]", "interfaces: []"), ("routes: [{to: default, dev: lo}]", "routes: []"),
            ("mode: user", "masquerade: false"), ("loopback: true", "loopback: false"),
        )
    ),
    ("names_need_a_place_for_their_files", "namespaces: [network]\nnetwork: {dns: {}}", "NS301", "network.dns",
     "namespaces: [network, mount]\nnetwork: {dns: {}}"),
    ("names_need_a_place_for_their_files", "namespaces: [network]\nnetwork: {hosts: {a: 10.0.0.1}}", "NS301", "network.hosts",
     "namespaces: [network]\nnetwork: {hosts: {}}"),
    ("names_need_a_place_for_their_files", "namespaces: [network, {type: mount, pid: 1}]\nnetwork: {dns: {}}", "NS301",
     "network.dns", "namespaces: [{type: network, path: /proc/self/ns/net}, mount]\nnetwork: {dns: {}, hosts: {a: '::1'}}"),
    ("names_need_a_place_for_their_files", "namespaces: [network, mount]\nnetwork: {dns: {}}\nfiles: {/etc/resolv.conf: {content: x}}",
     "NS318", "network.dns", "namespaces: [network, mount]\nnetwork: {dns: {}}\nfiles: {/etc/hosts: {content: x}}"),
    ("names_need_a_place_for_their_files", "namespaces: [network, mount]\nnetwork: {hosts: {a: '::1'}}\n"
     "mounts: ['./file:/etc/hosts']", "NS318", "network.hosts",
     "namespaces: [network, mount]\nnetwork: {hosts: {a: '::1'}}\nmounts: ['./file:/etc/resolv.conf']"),
    *(
        ("file_system_needs_mount", text, "NS301", text.partition(":")[0], f"namespaces: [mount]\n{text}")
        for text in ("rootfs: ./rootfs", "mounts: []", "files: {}", "propagation: rslave", "default_mounts: true",
                     "masked_paths: [/a]", "readonly_paths: []")
    ),
    ("file_system_needs_mount", "namespaces: [{type: mount, pid: 1}]\nmounts: []", "NS318", "mounts",
     "namespaces: [{type: mount, pid: 1}]\nmasked_paths: default"),
    ("init_needs_pid", "init: true", "NS301", "init", "namespaces: [pid, mount]\ninit: true\n"
     "mounts: [{type: proc, target: /proc}]"),
    ("init_needs_pid", "init: true\nnamespaces: [{type: pid, pid: 1}]", "NS301", "init", "init: false"),
    ("idmapped_mount_needs_user", "namespaces: [mount]\nmounts: [{type: bind, source: ./data, target: /a, idmap: true}]",
     "NS301", "mounts[0].idmap",
     "namespaces: [mount, user]\nmounts: [{type: bind, source: ./data, target: /a, idmap: true}]"),
    ("sysctl_is_namespaced", "sysctl: {vm.swappiness: 1}", "NS314", 'sysctl["vm.swappiness"]',
     "namespaces: [ipc]\nsysctl: {kernel.shmmax: 1}"),
    ("sysctl_is_namespaced", "sysctl: {net.ipv4/../../vm.x: 1}", "NS314", 'sysctl["net.ipv4/../../vm.x"]', ""),
    ("sysctl_is_namespaced", "sysctl: {net.ipv4.x: 1}", "NS301", 'sysctl["net.ipv4.x"]',
     "namespaces: [network]\nsysctl: {net.ipv4.x: 1}"),
    ("sysctl_is_namespaced", 'namespaces: [ipc]\nsysctl: {kernel.sem: "1\\n2"}', "NS314", 'sysctl["kernel.sem"]',
     "namespaces: [ipc]\nsysctl: {kernel.sem: 1 2 3 4}"),
    ("sysctl_is_namespaced", "namespaces: [uts]\nhostname: a\nsysctl: {kernel.hostname: b}", "NS318",
     'sysctl["kernel.hostname"]', "namespaces: [uts]\nhostname: a\nsysctl: {kernel.domainname: b}"),
    ("namespaces_are_listed_once", "namespaces: [uts, {type: uts}]", "NS302", "namespaces[1]",
     "namespaces: [uts, {type: ipc}]"),
    ("a_namespace_is_joined_in_one_way", "namespaces: [{type: uts, pid: 1, path: /proc/self/ns/uts}]", "NS318",
     "namespaces[0]", "namespaces: [{type: uts, pid: 1}]"),
    ("a_namespace_is_joined_in_one_way", "namespaces: [{type: uts, pid: 1, pin: ./p}]", "NS318", "namespaces[0].pin",
     "namespaces: [{type: uts, pin: ./p}]"),
    ("offsets_are_for_a_new_time_namespace", "namespaces: [{type: uts, boottime: 1}]", "NS318",
     "namespaces[0].boottime", "namespaces: [{type: time, boottime: 1}]"),
    ("offsets_are_for_a_new_time_namespace", "namespaces: [{type: time, pid: 1, monotonic: 1}]", "NS318",
     "namespaces[0].monotonic", "namespaces: [{type: time, monotonic: -1}]"),
    ("offsets_are_for_a_new_time_namespace", "namespaces: [{type: time, monotonic: 1400000h}]", "NS203",
     "namespaces[0].monotonic", "namespaces: [{type: time, monotonic: 100h}]"),
    *(
        ("id_ranges_are_sound", f"namespaces: [user]\nidmap: {{uid: {bad}, gid: []}}", "NS303", path,
         f"namespaces: [user]\nidmap: {{uid: {good}, gid: []}}")
        for bad, path, good in (
            ("['0:0:2', '1:9:1']", "idmap.uid[1]", "['0:0:2', '2:9:1']"),
            ("['0:5:2', '7:6:1']", "idmap.uid[1]", "['0:5:2', '7:7:1']"),
            ("['0:0:0']", "idmap.uid[0]", "['0:0:4294967295']"),
            ("['1:0:4294967295']", "idmap.uid[0]", "['1:0:4294967294']"),
            ("['0:4294967295:1']", "idmap.uid[0]", "['0:4294967294:1']"),
            (str([f"{i}:{i}:1" for i in range(341)]), "idmap.uid", str([f"{i}:{i}:1" for i in range(340)])),
            (str([f"{i}:{10**9 + i}:1" for i in range(260)]), "idmap.uid",
             str([f"{i}:{10**9 + i}:1" for i in range(200)])),
        )
    ),
    ("id_ranges_are_sound", "namespaces: [mount]\nmounts: [{type: bind, source: ./data, target: /a, "
     "idmap: {uid: ['0:0:1'], gid: ['0:0:0']}}]", "NS303", "mounts[0].idmap.gid[0]", "namespaces: [mount]\n"
     "mounts: [{type: bind, source: ./data, target: /a, idmap: {uid: ['0:0:1'], gid: ['0:0:1']}}]"),
    ("id_ranges_are_sound", "namespaces: [mount]\nmounts: [{type: bind, source: ./data, target: /a, "
     "idmap: {uid: ['0:0:1'], gid: []}}]", "NS303", "mounts[0].idmap.gid",
     "namespaces: [user]\nidmap: {uid: [], gid: []}"),
    *(
        (name, f"namespaces: [mount]\nmounts: [{bad}]", code, f"mounts[0]{path}",
         f"namespaces: [mount]\nmounts: [{good}]")
        for name, code, bad, path, good in (
            ("a_mount_has_what_its_type_needs", "NS312", "{type: bind, target: /a}", "",
             "{type: bind, target: /a, source: ./data}"),
            ("a_mount_has_what_its_type_needs", "NS312", "{type: overlay, target: /a}", "",
             "{type: overlay, target: /a, lower: [./data, ./up]}"),
            ("a_mount_has_what_its_type_needs", "NS312", "{type: overlay, target: /a, lower: ./data}", "",
             "{type: overlay, target: /a, lower: ./data, upper: ./up, work: ./wk}"),
            ("a_mount_has_what_its_type_needs", "NS318", "{type: umount, target: /}", ".target",
             "{type: umount, target: /a}"),
            ("the_root_is_not_mounted_over", "NS318", "./data:/", "", "./data:/a"),
            ("the_root_is_not_mounted_over", "NS318", "{type: tmpfs, target: /}", ".target",
             "{target: /, options: [ro], remount: true}"),
            ("a_mount_has_what_its_type_needs", "NS312", "{type: overlay, target: /a, lower: ./data, upper: ./up}", "",
             "{type: overlay, target: /a, lower: ./data, upper: ./up, work: ./wk}"),
            ("a_mount_has_what_its_type_needs", "NS312", "{type: overlay, target: /a, lower: ./data, work: ./wk}", "",
             "{type: overlay, target: /a, lower: [./data, ./up], options: [metacopy=on]}"),
            ("a_mount_has_what_its_type_needs", "NS318",
             "{type: overlay, target: /a, lower: ./data, options: [upperdir=/x]}", ".options", "{type: tmpfs, target: /a}"),
            ("a_mount_has_what_its_type_needs", "NS318", "{type: tmpfs, target: /a, lower: ./data}", ".lower",
             "{type: tmpfs, target: /a, source: none}"),
            ("a_mount_has_what_its_type_needs", "NS318", "{type: bind, source: ./data, target: /a, work: ./wk}", ".work",
             "{type: bind, source: ./data, target: /a, recursive: false}"),
            ("a_mount_has_what_its_type_needs", "NS318", "{type: tmpfs, target: /a, recursive: false}", ".recursive",
             "{type: bind, target: /a, remount: true, options: [ro]}"),
            ("a_mount_has_what_its_type_needs", "NS318", "{type: umount, target: /a, source: ./data}", ".source",
             "{type: umount, target: /a}"),
            ("a_mount_has_what_its_type_needs", "NS312", "{target: /a}", "", "{target: /a, propagation: shared}"),
            ("a_mount_has_what_its_type_needs", "NS312", "{target: /a, remount: true}", "",
             "{target: /a, options: [ro], remount: true}"),
            ("a_mount_has_what_its_type_needs", "NS312", "{target: /a, source: ./data}", "", "{target: /a, options: [ro]}"),
            ("mount_options_are_known", "NS313", "{type: tmpfs, target: /a, options: [ro, rw]}", ".options",
             "{type: tmpfs, target: /a, options: [ro, nosuid, size=1m]}"),
            ("mount_options_are_known", "NS313", "'./data:/a:size=1m'", "", "'./data:/a:rro'"),
            ("mount_options_are_known", "NS313", "{target: /a, options: [reado]}", ".options", "{target: /a, options: [ro]}"),
            ("sources_exist", "NS305", "./no:/a", "", "./data:/a"),
            ("sources_exist", "NS305", "{type: ext4, source: ./no, target: /a}", ".source",
             "{type: bind, source: ./no, target: /a, optional: true}"),
            ("sources_exist", "NS305", "{type: overlay, lower: [./data, ./no], target: /a}", ".lower[1]",
             "{type: overlay, lower: [./data, ./up], target: /a}"),
            ("sources_exist", "NS305", "{type: overlay, lower: ./data, upper: ./file, work: ./wk, target: /a}", ".upper",
             "{type: overlay, lower: ./data, upper: ./up, work: ./wk, target: /a}"),
            ("sources_exist", "NS305", "{type: overlay, lower: ./data, upper: ./up, work: ./no, target: /a}", ".work",
             "{type: nfs, source: 'host:/x', target: /a}"),
        )
    ),
    ("mounts_do_not_hide_earlier_ones", "namespaces: [mount]\nmounts: [./data:/a/b, ./data:/a]", "NS310", "mounts[1]",
     "namespaces: [mount]\nmounts: [./data:/a, ./data:/a/b]"),
    ("mounts_do_not_hide_earlier_ones", "namespaces: [mount]\nmounts: [./data:/a, ./data:/a]", "NS310", "mounts[1]",
     "namespaces: [mount]\nmounts: [./data:/a, {type: umount, target: /a}, ./data:/a]"),
    ("mounts_do_not_hide_earlier_ones", "namespaces: [mount]\nmounts: [./data:/ab, ./data:/a/b/c, ./data:/a]", "NS310",
     "mounts[2]", "namespaces: [mount]\nmounts: [./data:/ab, ./data:/a, {target: /, propagation: shared}]"),
    ("mounts_do_not_hide_earlier_ones", "namespaces: [mount]\nrootfs: ./rootfs\nmounts: [./data:/dev, ./data:/dev]",
     "NS310", "mounts[1]", "namespaces: [mount]\nrootfs: ./rootfs\nmounts: [./data:/dev, ./data:/proc/x]"),
    *(
        ("a_file_system_of_a_namespace_needs_it",
         f"namespaces: [user, mount]\nmounts: [{{type: {kind}, target: /a}}]", "NS301", "mounts[0].type",
         f"namespaces: [user, mount, {space}]\nmounts: [{{type: {kind}, target: {target}}}]")
        for kind, space, target in (("proc", "pid", "/proc"), ("sysfs", "network", "/sys"), ("mqueue", "ipc", "/a"),
                                    ("cgroup", "cgroup", "/a"), ("cgroup2", "cgroup", "/a"))
    ),
    ("a_file_system_of_a_namespace_needs_it", "namespaces: [user, mount, ipc]\nmounts: [{type: proc, target: /proc}]",
     "NS301", "mounts[0].type", "namespaces: [mount, ipc]\nmounts: [{type: proc, target: /proc}]"),
    ("proc_belongs_to_the_pid_namespace", "namespaces: [pid]", "NS311", "namespaces[0]",
     "namespaces: [{type: pid, pid: 1}]"),
    ("proc_belongs_to_the_pid_namespace", "namespaces: [pid, mount]", "NS311", "namespaces[0]",
     "namespaces: [pid, mount]\nmounts: [{type: proc, target: /proc/}]"),
    ("proc_belongs_to_the_pid_namespace", "namespaces: [mount, pid]\nrootfs: ./rootfs\ndefault_mounts: false", "NS311",
     "namespaces[1]", "namespaces: [mount, pid]\nrootfs: ./rootfs"),
    ("proc_belongs_to_the_pid_namespace", "namespaces: [mount, pid]\nrootfs: ./rootfs\nmounts: [/proc:/proc]", "NS311",
     "mounts[0]", "namespaces: [mount, pid]\nrootfs: ./rootfs\nmounts: [/proc:/host]"),
    ("proc_belongs_to_the_pid_namespace", "namespaces: [pid, {type: mount, pid: 1}]", "NS311", "namespaces[0]", ""),
    ("hostname_fits", f"namespaces: [uts]\nhostname: {'a' * 65}", "NS308", "hostname",
     f"namespaces: [uts]\nhostname: {'a' * 64}"),
    ("hostname_fits", f"namespaces: [uts]\nhostname: {'é' * 33}", "NS308", "hostname",
     f"namespaces: [uts]\nhostname: {'é' * 32}"),
    ("hostname_fits", f"namespaces: [uts]\ndomainname: {'a' * 65}", "NS308", "domainname",
     "namespaces: [uts]\nhostname: In Namespace"),
    ("hostname_fits", 'namespaces: [uts]\nhostname: "a\\e[31m"', "NS316", "hostname", ""),
    ("capability_sets_agree", "capabilities: {effective: [kill]}", "NS318", "capabilities.effective",
     "capabilities: {effective: [kill], permitted: [kill]}"),
    ("capability_sets_agree", "capabilities: {ambient: [kill], permitted: [kill]}", "NS318", "capabilities.ambient",
     "capabilities: {ambient: [kill], permitted: [kill], inheritable: [kill]}"),
    ("soft_limit_is_within_the_hard_one", "rlimits: {RLIMIT_NOFILE: '5:4'}", "NS318", "rlimits.RLIMIT_NOFILE",
     "rlimits: {nofile: '4:5'}"),
    ("soft_limit_is_within_the_hard_one", "rlimits: {core: 'unlimited:4'}", "NS318", "rlimits.core",
     "rlimits: {core: '4:unlimited'}"),
    ("a_terminal_is_the_input", "tty: true\nstdin: closed", "NS318", "stdin", "tty: true\nstdin: open"),
    ("files_are_given_once", "namespaces: [mount]\nfiles: {/a: {content: x}, /a/: {folder: true}}", "NS318",
     'files["/a"]', "namespaces: [mount]\nfiles: {/a: {content: x}, /a/b: {folder: true}}"),
    ("rootfs_exists", "namespaces: [mount]\nrootfs: ./no", "NS305", "rootfs", "namespaces: [mount]\nrootfs: ./rootfs"),
    ("rootfs_exists", "namespaces: [mount]\nrootfs: ./file", "NS305", "rootfs", ""),
    ("rootfs_exists", "namespaces: [mount]\nrootfs: {path: ./rootfs, overlay: {upper: ./no, work: ./wk}}", "NS305",
     "rootfs.overlay.upper", "namespaces: [mount]\nrootfs: {path: ./rootfs, overlay: {upper: ./up, work: ./wk}}"),
    ("rootfs_exists", "namespaces: [mount]\nrootfs: {path: ./rootfs, overlay: {upper: ./up, work: ./no}}", "NS305",
     "rootfs.overlay.work", "namespaces: [mount]\nrootfs: {path: ./rootfs, overlay: ephemeral}"),
    ("hooks_exist", "hooks: {prestart: [{path: ./no}]}", "NS305", "hooks.prestart[0].path", "hooks: {prestart: [{path: ./run}]}"),
    ("hooks_exist", "hooks: {poststop: [{path: ./file}]}", "NS305", "hooks.poststop[0].path", "hooks: {poststart: []}"),
    ("a_pin_can_be_made", "namespaces: [{type: uts, pin: ./no/uts}]", "NS305", "namespaces[0].pin",
     "namespaces: [{type: uts, pin: ./data/uts}]"),
    ("a_pin_can_be_made", "namespaces: [{type: uts, pin: ./data}]", "NS318", "namespaces[0].pin",
     "namespaces: [{type: uts, pin: ./file}]"),
    ("hooks_have_their_own_name", "hooks: {poststop: [{path: ./run, args: [x]}]}", "NS318",
     "hooks.poststop[0].args[0]", "hooks: {prestart: [{path: ./run, args: [./run, x]}], poststop: [{path: ./run}]}"),
    ("hooks_have_their_own_name", "hooks: {prestart: [{path: ./run, args: ['']}]}", "NS318",
     "hooks.prestart[0].args[0]", "hooks: {poststart: [{path: ./run, args: [run]}]}"),
    ("what_is_joined_is_of_its_kind", "namespaces: [{type: network, path: /proc/self/ns/uts}]", "NS309",
     "namespaces[0].path", "namespaces: [{type: network, path: /proc/self/ns/net}]"),
    ("what_is_joined_is_of_its_kind", "namespaces: [{type: network, path: ./file}]", "NS309", "namespaces[0].path", ""),
    ("what_is_joined_is_of_its_kind", "namespaces: [{type: network, path: ./fifo}]", "NS309", "namespaces[0].path", ""),
    ("what_is_joined_is_of_its_kind", "namespaces: [{type: network, path: ./data}]", "NS309", "namespaces[0].path", ""),
    ("what_is_joined_is_of_its_kind", "namespaces: [{type: network, path: /dev/zero}]", "NS309", "namespaces[0].path", ""),
    ("what_is_joined_is_of_its_kind", "namespaces: [{type: network, path: ./no}]", "NS305", "namespaces[0].path", ""),
    ("what_is_joined_is_of_its_kind", "namespaces: [{type: network, pid: 4194304}]", "NS305", "namespaces[0].pid",
     f"namespaces: [{{type: network, pid: {os.getppid()}}}]"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "bad", "code", "path", "good"), CASES)
def test_check(name: str, bad: str, code: str, path: str, good: str) -> None:
    diagnostics = found(bad)
    assert [(d.code, d.path) for d in diagnostics] == [(code, path)]
    (diagnostic,) = diagnostics
    assert diagnostic.span is not None
    assert diagnostic.span.line > 1
    assert diagnostic.summary[0] == diagnostic.summary[0].lower()
    assert not diagnostic.summary.endswith(".")
    warning = code in ("NS310", "NS311")
    assert diagnostic.severity is (Severity.WARNING if warning else Severity.ERROR)
    assert found(good) == []


@pytest.mark.parametrize("rule", CHECKS, ids=lambda rule: rule.name)
def test_each_check_is_what_finds_its_case(rule: Check) -> None:
    """Without the check its case passes, so the case is of this check and no other."""
    cases = [case for case in CASES if case[0] == rule.name]
    if rule.name == "name_is_allowed":
        return  # the schema refuses such a name before; see below
    assert cases
    for _, bad, code, path, _ in cases:
        document = parse_document(f"command: [x]\n{bad}", "spec.yaml")
        try:
            spec = load_document(document)[0]
        except NsrunError:
            from nsrun.spec.build import build

            spec = build(document)
        assert (code, path) in [(d.code, d.path) for d in rule.run(spec)]


def test_names_of_other_fronts_are_held_against_the_same_rule() -> None:
    spec = Spec(name="a/b", file="f", sha256="")
    assert [(d.code, d.path) for d in check(spec)] == [("NS316", "name")]
    joined = Namespace(type=NamespaceType.UTS, join_container="../x")
    codes = [d.code for d in check(Spec(name="a", file="f", sha256="", namespaces=(joined,)))]
    assert codes == ["NS316"]


def test_checks_of_unread_keys_are_left_out() -> None:
    spec = Spec(name="a", file="f", sha256="", hostname="x" * 70, idmap=IdMap(kind="root"))
    assert [d.code for d in check(spec)] == ["NS301", "NS308"]
    assert [d.code for d in check(spec, skip=["namespaces"])] == ["NS308"]
    assert check(spec, skip=["hostname", "idmap"]) == []


def test_a_missing_path_names_what_is_there_instead(folder: Path) -> None:
    (near,) = found("namespaces: [mount]\nrootfs: ./rotfs")
    assert near.help == ("did you mean `rootfs`?",)
    (deep,) = found("namespaces: [mount]\nrootfs: ./a/b/c")
    assert deep.label == f"`{folder}/a` is not there either"


def test_a_sysctl_in_the_manner_of_the_file_system_is_told_by_its_dots() -> None:
    (slashes,) = found("namespaces: [network]\nsysctl: {net/ipv4/ip_forward: 1}")
    assert slashes.help == ("write `net.ipv4.ip_forward`",)
    (up,) = found("namespaces: [network]\nsysctl: {net/../vm: 1}")
    assert up.help[0].startswith("net.*, ")


def test_an_ipc_namespace_has_its_article() -> None:
    (wrong,) = found("namespaces: [{type: uts, path: /proc/self/ns/ipc}]")
    assert (wrong.summary, wrong.label) == (
        "`/proc/self/ns/ipc` is an ipc namespace", "a uts namespace is to be joined here"
    )  # fmt: skip


def test_kinds_of_namespaces() -> None:
    files = {"user": "user", "mnt": "mount", "pid": "pid", "net": "network", "ipc": "ipc", "uts": "uts",
             "cgroup": "cgroup", "time": "time"}  # fmt: skip
    for file, kind in files.items():
        assert check_host.namespace_kind(f"/proc/self/ns/{file}") == kind
    with pytest.raises(OSError):
        check_host.namespace_kind("no-such-file")


def test_a_socket_is_no_namespace(folder: Path) -> None:
    with socket.socket(socket.AF_UNIX) as made:
        made.bind("sock")
        assert check_host.namespace_kind("sock") is None


def test_what_cannot_be_looked_at_is_left_to_the_planner(monkeypatch: pytest.MonkeyPatch) -> None:
    def denied(path: str) -> os.stat_result:
        raise PermissionError(13, "Permission denied", path)

    def denied_open(path: str, flags: int, mode: int = 0o777) -> int:
        raise PermissionError(13, "Permission denied", path)

    document = parse_document(
        "command: [x]\nrootfs: /r\nnamespaces: [mount, {type: uts, path: /n}]", "spec.yaml"
    )
    monkeypatch.setattr(os, "stat", denied)
    monkeypatch.setattr(os, "open", denied_open)
    assert load_document(document)[1] == ()


def test_many_mounts_are_checked_in_time() -> None:
    import time

    mounts = "\n".join(f"- {{type: tmpfs, target: /a/{i}}}" for i in range(3000))
    document = parse_document(f"command: [x]\nnamespaces: [mount]\nmounts:\n{mounts}", "spec.yaml")
    from nsrun.spec.build import build

    spec = build(document)
    begun = time.monotonic()
    assert check(spec) == []
    assert time.monotonic() - begun < 3
