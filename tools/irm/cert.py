"""irm cert: an authority, certificates and keys of names and members, in the security directory (docs/howto/certificates.md).

Works on files alone, and needs no IRMd: an IRMd reads them at every allocation.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import TYPE_CHECKING

from ouroboros import ipcp_options
from ouroboros.printable import printable
from ouroboros.rundir import security_directory

from ..text import print_json, rows_table
from .words import Arguments, Command, Group, Key, UsageError

if TYPE_CHECKING:
    from ouroboros.certificates import Bundle


def _init(arguments: Arguments) -> int:
    from socket import gethostname

    from ouroboros import certificates

    name = arguments.one("name") or f"authority of {gethostname()}"[: certificates.MAX_COMMON_NAME]
    path = certificates.init(_directory(arguments), name, days=_days(arguments, 3650))
    arguments.say(f'Made the authority "{name}", {path}; this system trusts it.')
    return 0


def _issue(arguments: Arguments) -> int:
    name = ipcp_options.check_new_name("The", arguments.operands[0])
    out = arguments.one("out")
    if out is not None and (arguments.flag("for") or arguments.flag("server")):
        raise UsageError(
            f'With "out" the certificate is not installed here: give "for" and "server" to `irm cert install {out}`.'
        )
    from ouroboros import certificates

    bundle = certificates.issue(_directory(arguments), name, days=_days(arguments, 365))
    if out is None:
        return _put(arguments, bundle, name)
    certificates.save_bundle(out, bundle)
    arguments.say(f'Issued a certificate for "{name}": {out}, which has its private key.')
    return 0


def _install(arguments: Arguments) -> int:
    path = arguments.operands[0]
    from ouroboros import certificates

    bundle = certificates.read_bundle(path)
    if bundle.key:
        return _put(arguments, bundle, certificates.common_name_of(bundle))
    for key in ("for", "server"):
        if arguments.flag(key):
            raise ValueError(
                f'{path} has no private key: it can be trusted as an authority, but not be shown, so "{key}" is wrong'
            )
    arguments.say(f"Trusted: {certificates.trust(_directory(arguments), bundle.authority, where=path)}.")
    return 0


def _put(arguments: Arguments, bundle: Bundle, name: str) -> int:
    from ouroboros import certificates

    clients = arguments.all("for")
    servers = [name] if arguments.flag("server") or not clients else []
    folders = certificates.install(
        _directory(arguments), bundle, servers=servers, clients=clients, replace=arguments.flag("replace")
    )
    arguments.say(f'Installed the certificate for "{name}" in {", ".join(folders)}.')
    return 0


def _show(arguments: Arguments) -> int:
    from ouroboros import certificates

    only = arguments.operand()
    shown = [
        one
        for one in certificates.show(_directory(arguments))
        if only is None or only in (one.name, one.common_name)
    ]
    if arguments.json:
        from dataclasses import asdict

        records = [
            {**asdict(one), "not_before": one.not_before.isoformat(), "not_after": one.not_after.isoformat()}
            for one in shown
        ]
        print_json({"certificates": records})
    elif shown:
        rows = [
            {
                "use": one.use,
                "name": one.name,
                "common name": one.common_name,
                "issuer": one.issuer,
                "until": f"{one.not_after:%Y-%m-%d}",
                "state": one.problem or "valid",
            }
            for one in shown
        ]
        print(rows_table(rows), end="\n\n")
    else:
        print(
            f"No certificates{'' if only is None else f' for {printable(only)}'} in {printable(_directory(arguments))}.",
            end="\n\n",
        )
    return 0


def _directory(arguments: Arguments) -> str:
    return os.path.abspath(arguments.one("dir") or security_directory())


def _days(arguments: Arguments, default: int) -> int:
    word = arguments.one("days")
    if word is None:
        return default
    from ouroboros.certificates import MAX_DAYS

    days = ipcp_options.Option(
        "days", None, ipcp_options.whole_number(1, MAX_DAYS), f"a number from 1 to {MAX_DAYS}"
    )
    return int(ipcp_options.check_value("days", word, days))


def _where() -> str:
    return (
        "for P: the certificate is shown when this system allocates a flow to P, a name, an IPCP or a layer; server: when it accepts flows "
        "to its own name, which is the default\n"
        "dir D: the security directory; default: that of the configuration's default"
    )


_DIR = Key("dir", "directory")
_USES: Iterable[Key] = (Key("for", "peer", repeats=True), Key("server"), Key("replace"), _DIR)

GROUP = Group(
    "cert",
    "authorities, certificates and keys of names",
    (
        Command(
            "init",
            "make an authority on this machine, and trust it",
            _init,
            keys=(Key("name", "common name", bare=True), Key("days", "days"), _DIR),
        ),
        Command(
            "issue",
            "make a key and a certificate for a name, by the authority of this machine; install it, or with out write it to a file for another machine",
            _issue,
            operands=("name",),
            keys=(*_USES, Key("days", "days"), Key("out", "file")),
            details=_where,
        ),
        Command(
            "install",
            "install a certificate with its key and authority from a file that issue wrote, or trust an authority's certificate",
            _install,
            operands=("file",),
            keys=tuple(_USES),
            details=_where,
        ),
        Command(
            "show",
            "list the certificates of this system, all or those for a name; keys are never shown",
            _show,
            operands=("name",),
            optional=1,
            keys=(_DIR,),
            json=True,
        ),
    ),
)
