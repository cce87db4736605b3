"""sluicegate.sh under every shell there is: the project's vectors, the caller's shell left as it was, no secret shown.

SHELLS names the shells, separated by commas; SLUICEGATE_BINARY a gateway that judges the README's token.
"""

import base64
import hashlib
import hmac
import json
import os
import re
import shutil
import subprocess
import tempfile
import unittest
from pathlib import Path
from typing import Any
from urllib.parse import quote

HERE = Path(__file__).resolve().parent
LIBRARY = HERE.parent / "sluicegate.sh"
VECTORS = HERE.parents[2] / "tests" / "vectors"
SHELLS = [name.split() for name in os.environ.get("SHELLS", "dash,bash").split(",")]
BINARY = os.environ.get("SLUICEGATE_BINARY")
BASE = "https://gateway.example"
MINT = 'sluicegate_mint "$@"'
SECRET = "sgk1_0123456789abcdefghijklmnopqrstuvwxyzABCDEFG"
KEY = {"SLUICEGATE_SECRET": SECRET}
URL = "https://files.example/a"
PLAIN = ["--kid", "k", "--url", URL]
OPTIONS = """--url --kid --secret-file --base --expires-in --exp --align-to --not-before --filename --disposition --id
    --ip""".split()
NUMBERS = {"exp", "expires_in", "align_to", "not_before"}


def vectors(name: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads((VECTORS / f"{name}.json").read_text(encoding="utf-8"))["vectors"]
    return found


def secrets() -> dict[str, str]:
    tenants = json.loads((VECTORS / "keys.json").read_text(encoding="utf-8"))["tenants"]
    return {key["kid"]: key["secret"] for tenant in tenants for key in tenant["keys"]}


def shell(which: list[str], script: str, *arguments: str | bytes, **options: Any) -> subprocess.CompletedProcess[bytes]:
    """Runs a script that has the library, and what it is given as positional parameters."""
    environment = {**os.environ, **options.pop("environment", {})}
    command = [*which, "-c", f". '{LIBRARY}'\n{script}", "sh", *arguments]
    return subprocess.run(command, env=environment, capture_output=True, **options)


def mint(which: list[str], arguments: list[Any], secret: str = SECRET, now: int = 1_800_000_000) -> Any:
    environment = {"SLUICEGATE_SECRET": secret, "SLUICEGATE_NOW": str(now)}
    return shell(which, f'sluicegate_mint --base {BASE} "$@"', *arguments, environment=environment)


def words(options: dict[str, Any]) -> list[str]:
    """Options as a shell is given them, where every value is text."""
    text = lambda value: str(value).lower() if isinstance(value, bool) else str(value)
    return [word for name, value in options.items() for word in ("--" + name.replace("_", "-"), text(value))]


def can_be_said(vector: dict[str, Any]) -> bool:
    """Arguments have no type, and hold no NUL; values that take more than their text are left to the gateway."""
    value = vector["options"].get(vector["parameter"], "")
    if vector["deep"] or "\0" in str(value):
        return False
    if vector["parameter"] in NUMBERS:
        return not (isinstance(value, str) and value.isdigit())
    return isinstance(value, (str, bool))


class Vectors(unittest.TestCase):
    def test_what_is_signed(self) -> None:
        known = secrets()
        for which in SHELLS:
            for vector in vectors("mint"):
                options = {{"nbf": "not_before"}.get(name, name): value for name, value in vector["params"].items()}
                with self.subTest(vector["name"], shell=which):
                    done = mint(which, [*words(options), "--kid", vector["kid"]], known[vector["kid"]])
                    self.assertEqual(done.stdout.decode(), f"{BASE}/?{vector['query']}\n", done.stderr)
                    self.assertEqual((done.returncode, done.stderr), (0, b""))

    def test_what_is_refused(self) -> None:
        known, checked = secrets(), 0
        for which in SHELLS:
            for vector in filter(can_be_said, vectors("refuse")):
                checked += 1
                secret = vector.get("secret", known.get(vector.get("secret_of", vector["kid"])))
                with self.subTest(vector["name"], shell=which):
                    done = mint(which, [*words(vector["options"]), "--kid", vector["kid"]], secret)
                    self.assertEqual((done.returncode, done.stdout), (2, b""), done.stderr)
                    option = "--" + vector["parameter"].replace("_", "-")
                    place = {"secret": "secret: ", "file_name": "option `--file-name`: "}
                    start = place.get(vector["parameter"], option)
                    self.assertTrue(done.stderr.decode().startswith(f"sluicegate_mint: {start}"), done.stderr)
                    self.assertEqual(done.stderr.count(b"\n"), 1, done.stderr)
        self.assertGreater(checked, 110 * len(SHELLS))

    def test_when_links_end(self) -> None:
        for which in SHELLS:
            for vector in vectors("expiry"):
                options = {name: vector[name] for name in vector if name in NUMBERS}
                with self.subTest(vector["name"], shell=which):
                    done = mint(which, [*words(options), "--kid", "k", "--url", URL], now=vector["now"])
                    self.assertIn(f"&exp={vector['expect']}&", done.stdout.decode(), done.stderr)


class Bytes(unittest.TestCase):
    def test_any_secret_signs_as_any_other_hmac(self) -> None:
        long = "".join(map(chr, range(0x20, 0x7F)))
        for which in SHELLS:
            odd = "%s%d\\n\\045'\"$(id)`id`*?" * 3
            for secret in (long[:32], long[:64], long[:65], long, odd, "пароль-Ключ-秘密-🎉" * 2):
                with self.subTest(secret, shell=which):
                    key = {"SLUICEGATE_SECRET": secret}
                    done = shell(which, "printf text | sluicegate_sign", environment=key)
                    tag = hmac.new(secret.encode(), b"text", hashlib.sha256).digest()
                    wanted = base64.urlsafe_b64encode(tag).rstrip(b"=") + b"\n"
                    self.assertEqual((done.stdout, done.stderr), (wanted, b""))

    def test_every_locale_gives_the_same_bytes(self) -> None:
        name = "Отчёт 年度 🎉%d.pdf"
        wanted = f"&filename={quote(name, safe='')}&"
        for which in SHELLS:
            for locale in ("C", "C.UTF-8", "tr_TR.ISO-8859-9"):
                arguments = [*PLAIN, "--filename", name]
                done = shell(which, MINT, *arguments, environment={"LC_ALL": locale, **KEY})
                self.assertIn(wanted, done.stdout.decode(), done.stderr)

    def test_what_is_no_utf8(self) -> None:
        for which in SHELLS:
            for bad in (b"\xff", b"a\xe9", b"\xc0\xaf", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"\xe2\x82"):
                done = mint(which, [*PLAIN, "--filename", bad])
                self.assertEqual((done.returncode, done.stdout), (2, b""), (which, bad))
                self.assertIn(b"no UTF-8", done.stderr)


class Caller(unittest.TestCase):
    def test_the_callers_shell_is_left_as_it_was(self) -> None:
        script = """
        set -eu; set -- a "b c"; IFS=:; url=mine; export _sg_url=theirs; LC_ALL=C.UTF-8
        trap 'echo trapped' EXIT
        state() { set +o; printf '%s|' "$@" "$IFS" "$LC_ALL" "$url" "$_sg_url" "$SLUICEGATE_SECRET"; trap; }
        before=$(state "$@")
        link=$(sluicegate_mint --kid k --url https://files.example/a)
        sluicegate_mint --kid k --url https://files.example/a >/dev/null
        [ "$(state "$@")" = "$before" ] || { echo changed; exit 3; }
        if sluicegate_mint --kid k --url nonsense 2>/dev/null; then exit 4; fi
        echo "$link"
        """
        for which in SHELLS:
            done = shell(which, script, environment=KEY)
            self.assertEqual((done.returncode, done.stderr), (0, b""), (which, done.stdout))
            self.assertRegex(done.stdout.decode(), r"^http://127\.0\.0\.1:8080/\?url=.*sig=[\w-]{43}\ntrapped\n$")

    def test_odd_settings_of_the_caller(self) -> None:
        for which in SHELLS:
            for setting in ("set -f", "set -a", "set -eu", "IFS=0123456789abcdef", "LC_ALL=C.UTF-8", "cd /"):
                url = "--url=https://files.example/a?b=*"
                done = shell(which, f"{setting}\n{MINT}", "--exp=5", "--kid=k", url, environment=KEY)
                signed = "sluicegate-link-v1\nexp=5\nkid=k\nurl=https://files.example/a?b=*\n"
                tag = base64.urlsafe_b64encode(hmac.new(SECRET.encode(), signed.encode(), hashlib.sha256).digest())
                self.assertTrue(done.stdout.endswith(b"&sig=" + tag[:43] + b"\n"), (setting, done))

    def test_a_secret_file(self) -> None:
        for which in SHELLS:
            with tempfile.TemporaryDirectory() as folder:
                for end, good in ((b"", True), (b"\n", True), (b"\r\n", True), (b"\n\n", False), (b"\0", False)):
                    file = Path(folder, "-s $x")
                    file.write_bytes(SECRET.encode() + end)
                    done = shell(which, MINT, *PLAIN, "--secret-file", "-s $x", cwd=folder)
                    self.assertEqual(done.returncode, 0 if good else 2, (which, end, done.stderr))
                for name in ("none", "."):
                    done = shell(which, MINT, *PLAIN, "--secret-file", name, cwd=folder)
                    self.assertIn(f"--secret-file `{name}`".encode(), done.stderr)

    def test_wrong_usage(self) -> None:
        for arguments, text in (
            ([], "--url: it is missing"),
            (["--url", URL], "--kid: it is missing"),
            (["--url"], "--url: its value is missing"),
            (["--url", URL, "--url", URL], "the option is given twice"),
            (["--url", URL, "--kid", SECRET], "--kid: this looks like a secret"),
            (["--secret", SECRET], "option `--secret`"),
            ([*PLAIN, "--exp", "1800003600000"], "--exp `1800003600000`: that looks like milliseconds; divide by 1000"),
            ([*PLAIN, "--not-before", "1800003600000"], "0`: that looks like milliseconds; divide by 1000"),
            ([*PLAIN, "--exp", "180000360000x"], "--exp `180000360000x`: write whole seconds from 0"),
            ([*PLAIN, "--expires-in", "1800003600000"], "--expires-in `1800003600000`: write whole seconds from 1"),
            (["--help"], f"option `--help`: there is no such option; write one of {', '.join(OPTIONS)}\n"),
            (["-h"], "option `-h`: there is no such option; write one of --url, --kid, "),
            ([SECRET], "a value stands where an option is expected"),
            (["--url", "https://me:pass@files.example/a?sig=abc#x", "--kid", "k"], "`https://...@files.example/a?...`"),
            (["--url", URL, "--kid", "k", "--base", "https://g.example/x"], "--base `https://g.example/x`"),
        ):
            for which in SHELLS:
                done = shell(which, MINT, *arguments, environment=KEY)
                self.assertEqual((done.returncode, done.stdout), (2, b""), arguments)
                self.assertIn(text, done.stderr.decode())
                self.assertNotIn(SECRET.encode(), done.stderr)


    def test_a_secret_in_any_other_place(self) -> None:
        for known in (SECRET, "correct-horse/battery?staple@15%\"é#"):
            for arguments in (
                ["--secret-file", known],
                ["--base", known],
                ["--base", "http://" + known + "/x"],
                ["--kid", known],
                ["--filename", "/" + "x" * 60 + known],
                ["--ip", known],
                ["--exp", known],
                ["--" + known + "=x"],
                ["--" + known],
                [known],
            ):
                for which in SHELLS:
                    given = PLAIN if "--kid" not in arguments else ["--url", URL]
                    done = shell(which, MINT, *given, *arguments, environment={"SLUICEGATE_SECRET": known})
                    self.assertEqual((done.returncode, done.stdout), (2, b""), arguments)
                    for piece in (known[5:12], known[-4:], quote(known, safe="")[-8:]):
                        self.assertNotIn(piece.encode(), done.stderr)

    def test_a_file_with_the_secret_beside_the_secret(self) -> None:
        known = "Correct-horse/battery?staple@15%"
        with tempfile.TemporaryDirectory() as folder:
            Path(folder, "s").write_text(known)
            for which in SHELLS:
                arguments = ["--url", URL, "--secret-file", "s", "--kid", known]
                done = shell(which, MINT, *arguments, cwd=folder)
                self.assertEqual(done.returncode, 2)
                self.assertNotIn(b"horse", done.stderr)

    def test_no_function_or_alias_of_the_caller_is_run(self) -> None:
        names = ("printf", "openssl", "od", "awk", "tr", "cat", "date", "wc", "command")
        options = f"--kid k --url {URL} --exp 5"
        text = f"sluicegate-link-v1\nexp=5\nkid=k\nurl={URL}\n"
        tag = base64.urlsafe_b64encode(hmac.new(SECRET.encode(), text.encode(), hashlib.sha256).digest())[:43]
        with tempfile.TemporaryDirectory() as folder:
            Path(folder, "s").write_text(SECRET)
            functions = "\n".join(f'{name}() {{ echo "{name} $*" >>{folder}/run; }}' for name in names)
            aliases = "\n".join(f"alias {name}='echo {name} >>{folder}/run;'" for name in (*names, "unset", "set"))
            expand = '[ -z "${BASH_VERSION-}" ] || shopt -s expand_aliases\n'
            for which in SHELLS:
                for before, after in (
                    (functions, ""),
                    ("", functions),
                    (expand + aliases, ""),
                    (expand, aliases),
                ):
                    for place in (f"--secret-file {folder}/s", ""):
                        script = f"{before}\n. '{LIBRARY}'\n{after}\nsluicegate_mint {options} {place}"
                        environment = {**os.environ, **KEY}
                        done = subprocess.run([*which, "-c", script], env=environment, capture_output=True)
                        self.assertTrue(done.stdout.endswith(b"&sig=" + tag + b"\n"), (which, before, after, done))
                        self.assertEqual(done.stderr, b"")
                        self.assertFalse(Path(folder, "run").exists(), (which, before, after))

    def test_a_clock_for_tests_is_digits(self) -> None:
        for which in SHELLS:
            for now, end in (("1800000000", True), ("", False), ("-5", False), ("x[$(id)]", False), ("0x10", False)):
                done = shell(which, MINT, *PLAIN, environment={**KEY, "SLUICEGATE_NOW": now})
                self.assertEqual(b"&exp=1800003600&" in done.stdout, end, done)
                self.assertEqual((done.returncode, done.stderr), (0, b""))


class Secrecy(unittest.TestCase):
    """Every program that the library starts stands behind a script that writes down what /proc shows of it and of its variables."""

    def seen(self, which: list[str], script: str) -> str:
        with tempfile.TemporaryDirectory() as folder:
            log = Path(folder, "log")
            real = {name: shutil.which(name) for name in ("openssl", "awk", "cat", "date", "od", "tr", "wc")}
            for name, path in real.items():
                watch = Path(folder, name)
                line = f"{real['tr']} '\\000' ' ' </proc/$$"
                shown = f"{{ {line}/cmdline; echo; {line}/environ; echo; }} >>{log}"
                watch.write_text(f"#!{shutil.which('dash')}\n{shown}\nexec {path} \"$@\"\n")
                watch.chmod(0o755)
            Path(folder, "s").write_text(SECRET)
            # Nothing but these can be found, so nothing else is started.
            key = f"SLUICEGATE_SECRET=$(cat {folder}/s); export SLUICEGATE_SECRET"
            inside = f"PATH={folder}; . '{LIBRARY}'; {key}; {script}"
            program = shutil.which(which[0]) or which[0]
            done = subprocess.run([program, *which[1:], "-c", inside], capture_output=True, text=True)
            self.assertEqual(done.returncode, 0, done.stderr)
            self.assertNotIn(SECRET, done.stdout + done.stderr)
            return log.read_text()

    def test_no_process_has_it_among_its_arguments(self) -> None:
        for which in SHELLS:
            script = f"sluicegate_mint --kid k --url {URL}; echo x | sluicegate_sign"
            # The folder of the watched programs is PATH.
            script += f'; sluicegate_mint --kid k --url {URL} --secret-file "$PATH/s"'
            script += '; echo x | sluicegate_sign --secret-file "$PATH/s"'
            found = self.seen(which, f"{script}; set -x; {script}")
            self.assertIn("openssl dgst -sha256 -binary", found)
            self.assertNotIn(SECRET, found)
            self.assertNotIn(SECRET.encode().hex(" "), found)

    def test_the_watch_sees_what_the_usual_recipe_shows(self) -> None:
        found = self.seen(["dash"], 'echo x | openssl dgst -sha256 -hmac "$SLUICEGATE_SECRET" -binary | od')
        self.assertIn(SECRET, found)


@unittest.skipUnless(BINARY, "SLUICEGATE_BINARY names no gateway")
class Readme(unittest.TestCase):
    POLICY = """
    tenant = "acme"
    [[issuers]]
    issuer = "https://backend.example.com/"
    audience = "sluicegate-demo"
    [[issuers.keys]]
    id = "2027-01"
    algorithm = "HS256"
    secret = "file:backend.secret"
    [[allow]]
    host = "files.example"
    """

    def test_a_gateway_takes_the_token(self) -> None:
        text = (HERE.parent / "README.md").read_text(encoding="utf-8")
        recipe = re.findall(r"^```sh\n(.*?)^```", text, re.DOTALL | re.MULTILINE)[-1]
        with tempfile.TemporaryDirectory() as folder:
            Path(folder, "backend.secret").write_text(SECRET + "\n")
            Path(folder, "acme.toml").write_text(self.POLICY)
            for which in SHELLS:
                link = shell(which, recipe, cwd=folder).stdout.decode().strip()
                for judged, status in ((link, 0), (link[:-9] + "A" * 9, 1)):
                    command = [str(BINARY), "explain", "--policy", "acme.toml", judged]
                    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
                    self.assertEqual(done.returncode, status, done.stdout + done.stderr)


if __name__ == "__main__":
    unittest.main()
