"""The files that secure a name: the files that are read, their meaning, and mistakes that make the IRMd refuse a flow."""

from __future__ import annotations

import logging
import os
from pathlib import Path

import pytest

from irmd.oap import credentials, encryption
from irmd.oap.algorithms import Cipher, Hash, Kex
from irmd.oap.credentials import (
    MAX_FILE,
    Credentials,
    Policy,
    SecurityPaths,
    Side,
    Unusable,
    certificate_hint,
    read,
)
from irmd.oap.encryption import EncConfError, Encryption, KemMode
from irmd.oap.oap import Oap
from ouroboros.errors import EAUTH, ECRYPT
from ouroboros.log import LogLimiter
from ouroboros.name_info import Requirement
from ouroboros.rundir import security_directory

PLAIN = Policy()


def put(folder: Path, side: str, name: str, **files: str) -> None:
    (folder / side / name).mkdir(parents=True, exist_ok=True)
    for file, text in files.items():
        path = folder / side / name / file.replace("_", ".")
        path.write_text(text)
        path.chmod(0o600 if file == "key_pem" else 0o644)


# ---------------------------------------------------------------- enc.conf


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("", Encryption()),
        ("\n# a comment\n\n", Encryption()),
        ("kex=X25519", Encryption(kex=Kex.X25519)),
        ("kex=secp384r1\ncipher=chacha20-poly1305", Encryption(Kex.P_384, Cipher.CHACHA20_POLY1305)),
        (" kdf = SHA3-512 \n digest=blake2b512", Encryption(kdf=Hash.SHA3_512, digest=Hash.BLAKE2B_512)),
        ("kex=ML-KEM-768\nkem_mode=client", Encryption(Kex.ML_KEM_768, kem_mode=KemMode.CLIENT)),
        ("kex=ffdhe3072\nkex=X448MLKEM1024", Encryption(Kex.X448MLKEM1024)),
        ("colour=blue", Encryption()),
        ("none", None),
        ("kex=X448\nNONE\n", None),
    ],
)
def test_enc_conf(text: str, wanted: Encryption | None) -> None:
    assert encryption.parse(text.encode()) == wanted


def test_the_defaults_of_the_specification() -> None:
    assert encryption.parse(b"") == Encryption(
        Kex.P_256, Cipher.AES_256_GCM, Hash.SHA_256, Hash.SHA_256, KemMode.SERVER
    )


@pytest.mark.parametrize(
    "line", ["kex=P-255", "cipher=none", "cipher=rot13", "kdf=md5", "digest=", "kem_mode=both", "X25519"]
)
def test_values_that_are_unknown(line: str) -> None:
    with pytest.raises(EncConfError, match="line 2") as error:
        encryption.parse(f"kex=X25519\n{line}\n".encode())
    assert error.value.errno == ECRYPT


def test_enc_conf_that_is_no_text() -> None:
    with pytest.raises(EncConfError):
        encryption.parse(b"\xff\xfe")


# ---------------------------------------------------------------- files


def test_nothing_is_plain(tmp_path: Path) -> None:
    for side in Side:
        assert read(str(tmp_path), side, "n", PLAIN).plain
        assert read("", side, "n", PLAIN).plain
    assert not read(str(tmp_path), Side.CLIENT, "n", Policy(require=Requirement.AUTHENTICATION)).plain


def test_default_places(tmp_path: Path) -> None:
    put(tmp_path, "server", "n", crt_pem="C", key_pem="K", enc_conf="kex=X25519")
    assert read(str(tmp_path), Side.SERVER, "n", PLAIN) == Credentials(Encryption(Kex.X25519), b"C", b"K")
    assert read(str(tmp_path), Side.CLIENT, "n", PLAIN).plain
    put(tmp_path, "client", "n", enc_conf="none")
    assert read(str(tmp_path), Side.CLIENT, "n", PLAIN).plain


def test_paths_that_are_given(tmp_path: Path) -> None:
    put(tmp_path, "server", "n", crt_pem="C", key_pem="K")
    (tmp_path / "mine").write_text("kex=X448")
    policy = Policy(server=SecurityPaths(enc=str(tmp_path / "mine")))
    assert read(str(tmp_path), Side.SERVER, "n", policy) == Credentials(Encryption(Kex.X448), b"C", b"K")
    assert read("", Side.SERVER, "n", policy) == Credentials(Encryption(Kex.X448))


def test_a_static_key(tmp_path: Path) -> None:
    put(tmp_path, "server", "n", enc_conf="kex=ML-KEM-768")
    (tmp_path / "server" / "n" / "kex.key.pem").write_text("S")
    (tmp_path / "server" / "n" / "kex.key.pem").chmod(0o600)
    found = read(str(tmp_path), Side.SERVER, "n", PLAIN)
    assert (found.static, found.static_raw) == (b"S", False)
    put(tmp_path, "client", "n", enc_conf="kex=X25519MLKEM768")
    (tmp_path / "client" / "n" / "kex.srv.pub.raw").write_text("P")
    found = read(str(tmp_path), Side.CLIENT, "n", PLAIN)
    assert (found.static, found.static_raw) == (b"P", True)


@pytest.mark.parametrize("mode", [0o604, 0o640, 0o602, 0o610, 0o666])
@pytest.mark.parametrize("side", Side)
def test_a_private_key_that_is_open_to_others(tmp_path: Path, side: Side, mode: int) -> None:
    put(tmp_path, side.value, "n", crt_pem="C", key_pem="K")
    key = tmp_path / side.value / "n" / "key.pem"
    key.chmod(mode)
    for policy, folder in (
        (PLAIN, str(tmp_path)),
        (Policy(*(SecurityPaths(crt=str(key.with_name("crt.pem")), key=str(key)),) * 2), ""),
    ):
        with pytest.raises(
            Unusable, match=f"{key} is open to other users .mode {mode:04o}.; `chmod 600 {key}`"
        ) as error:
            read(folder, side, "n", policy)
        assert error.value.errno == EAUTH
    key.chmod(0o400)
    assert read(str(tmp_path), side, "n", PLAIN).key == b"K"


@pytest.mark.parametrize("suffix", ["pem", "raw"])
def test_a_static_private_key_that_is_open_to_others(tmp_path: Path, suffix: str) -> None:
    put(tmp_path, "server", "n", enc_conf="kex=ML-KEM-768" if suffix == "pem" else "kex=X25519MLKEM768")
    key = tmp_path / "server" / "n" / f"kex.key.{suffix}"
    key.write_text("S")
    key.chmod(0o644)
    with pytest.raises(Unusable, match="is open to other users") as error:
        read(str(tmp_path), Side.SERVER, "n", PLAIN)
    assert error.value.errno == ECRYPT


@pytest.mark.parametrize("file", ["crt.pem", "key.pem"])
def test_half_of_an_identity(tmp_path: Path, file: str) -> None:
    put(tmp_path, "server", "n", crt_pem="C", key_pem="K")
    (tmp_path / "server" / "n" / file).unlink()
    with pytest.raises(Unusable, match=f"but not .*/server/n/{file}") as error:
        read(str(tmp_path), Side.SERVER, "n", PLAIN)
    assert error.value.errno == EAUTH


@pytest.mark.parametrize(("what", "number"), [("enc", ECRYPT), ("crt", EAUTH), ("key", EAUTH)])
def test_a_path_that_leads_nowhere(tmp_path: Path, what: str, number: int) -> None:
    """It was there when the name was created."""
    policy = Policy(client=SecurityPaths(**{what: str(tmp_path / "gone")}))
    with pytest.raises(Unusable, match="cannot read .*/gone: No such file") as error:
        read("", Side.CLIENT, "n", policy)
    assert error.value.errno == number


def test_an_empty_file_is_not_none(tmp_path: Path) -> None:
    put(tmp_path, "client", "n", enc_conf="", crt_pem="", key_pem="")
    found = read(str(tmp_path), Side.CLIENT, "n", PLAIN)
    assert found.encryption == Encryption() and found.certificate and found.key


def test_what_is_no_file(tmp_path: Path) -> None:
    put(tmp_path, "client", "n")
    os.mkfifo(tmp_path / "client" / "n" / "enc.conf")
    with pytest.raises(Unusable, match="is not a file"):
        read(str(tmp_path), Side.CLIENT, "n", PLAIN)
    (tmp_path / "client" / "n" / "enc.conf").unlink()
    (tmp_path / "client" / "n" / "enc.conf").mkdir()
    with pytest.raises(Unusable):
        read(str(tmp_path), Side.CLIENT, "n", PLAIN)


def test_a_file_without_end(tmp_path: Path) -> None:
    put(tmp_path, "client", "n", enc_conf="#" * (MAX_FILE + 1))
    with pytest.raises(Unusable, match="more than"):
        read(str(tmp_path), Side.CLIENT, "n", PLAIN)


@pytest.mark.parametrize("name", ["../server/n", ".", "..", "a/b", "x" * 300])
def test_a_name_is_no_path(tmp_path: Path, name: str) -> None:
    put(tmp_path, "server", "n", enc_conf="")
    assert read(str(tmp_path), Side.CLIENT, name, PLAIN).plain


def test_an_enc_conf_with_a_mistake_names_the_file(tmp_path: Path) -> None:
    put(tmp_path, "client", "n", enc_conf="kex=rot13")
    with pytest.raises(Unusable, match=r"/client/n/enc\.conf: line 1: kex \"rot13\" is unknown"):
        read(str(tmp_path), Side.CLIENT, "n", PLAIN)


def test_the_default_directory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert security_directory() == "/etc/ouroboros/security"
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setenv("XDG_CONFIG_HOME", "/home/a/.cfg")
    assert security_directory() == "/home/a/.cfg/ouroboros/security"


# ---------------------------------------------------------------- start-up


def test_the_daemon_starts_without_a_cryptographic_library() -> None:
    import subprocess
    import sys

    code = "import sys, irmd.daemon; print([m for m in sys.modules if m.split('.')[0] in ('cryptography', 'Crypto')])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize(
    "file", ["cacert/ca.pem", "untrusted/ca.pem", "client/n/crt.pem", "server/n/enc.conf"]
)
def test_credentials_that_are_there(tmp_path: Path, file: str) -> None:
    for folder in ("", "cacert", "other"):
        (tmp_path / folder).mkdir(exist_ok=True)
        assert not credentials.any_below(str(tmp_path))
    assert not credentials.any_below(str(tmp_path / "nowhere"))
    (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / file).touch()
    assert credentials.any_below(str(tmp_path))


def test_the_library_is_loaded_once_where_it_is_needed(tmp_path: Path) -> None:
    oap = Oap(LogLimiter(logging.getLogger("test"), lambda: 0.0), directory=str(tmp_path))
    assert oap.prepare() is None
    thread = oap.prepare(needed=True)
    assert thread is not None
    thread.join()
    assert oap.prepare(needed=True) is None


def test_the_example_has_the_defaults_and_names_what_there_is() -> None:
    example = (Path(__file__).resolve().parents[3] / "packaging" / "enc.conf.example").read_bytes()
    assert encryption.parse(example) == Encryption()
    named = {word.replace("-", "").lower() for word in example.decode().replace("#", " ").split()}
    for kind, missing in ((Cipher, set()), (Hash, set()), (Kex, {"MLKEM512"})):
        words = {one.name.replace("_", "") for one in kind if one.name != "NONE"} - missing
        assert {word.lower() for word in words} <= named


def test_which_certificate_a_requester_shows(tmp_path: Path) -> None:
    folders = [f"{tmp_path}/client/{name}" for name in ("there", "net")]
    assert certificate_hint(str(tmp_path), ("there", "net")).endswith(
        f"no crt.pem in {folders[0]} or {folders[1]}"
    )
    put(tmp_path, "client", "net", crt_pem="C")
    assert f"shows {folders[1]}/crt.pem, and trusts" in certificate_hint(str(tmp_path), ("there", "net"))
