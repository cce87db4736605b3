"""What policy/Makefile puts into the policy layer. `make` runs for real, in a copy of the folder."""

import json
import shutil
import subprocess
import tempfile
import tomllib
import unittest
from pathlib import Path

import jsonschema
from template import ROOT, read

SECRET = "decoy-secret-that-must-stay-at-home"


class TheLayer(unittest.TestCase):
    def setUp(self) -> None:
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.policy = Path(folder.name) / "policy"
        self.artifacts = Path(folder.name) / "artifacts"
        # What git has of the folder and nothing else, so that a developer's own files do not matter.
        self.policy.mkdir()
        for name in ("Makefile", "README.md", "demo.toml", "schema.json"):
            shutil.copy(ROOT / "policy" / name, self.policy)
        (self.policy / "demo.secret").write_text(SECRET)

    def make(self) -> subprocess.CompletedProcess:
        """Called as SAM calls it, with the logical name of the layer in the target."""
        return subprocess.run(
            ["make", "--makefile", str(self.policy / "Makefile"), "build-PolicyLayer"],
            cwd=self.policy,
            env={"PATH": "/usr/local/bin:/usr/bin:/bin", "ARTIFACTS_DIR": str(self.artifacts)},
            capture_output=True,
            text=True,
        )

    def made(self) -> set[str]:
        return {str(path.relative_to(self.artifacts)) for path in self.artifacts.rglob("*") if path.is_file()}

    def tenant(self, name: str, *lines: str) -> None:
        (self.policy / f"{name}.toml").write_text("\n".join([f'tenant = "{name}"', *lines, ""]))

    def pem(self, kind: str, before: str = "", after: str = "") -> None:
        block = f"-----BEGIN {kind}-----\nMCowBQYDK2VwAyEA+/==\n-----END {kind}-----\n"
        (self.policy / "beta.pem").write_text(before + block + after)

    def assert_refused(self, *words: str) -> None:
        done = self.make()
        self.assertNotEqual(done.returncode, 0, done.stdout)
        for word in words:
            self.assertIn(word, done.stderr)

    def test_takes_policies_and_public_keys_and_no_secret(self) -> None:
        shutil.copy(ROOT / "examples" / "aws" / "acme.toml", self.policy)
        self.tenant("beta", '#secret = "env:HOME_ONLY"', 'public_key = "file:beta.pem" # not "file:beta.secret"')
        self.pem("PUBLIC KEY")
        for name in ("acme.secret", ".hidden.toml", "notes.txt", "acme.toml~", "key.pem.secret"):
            (self.policy / name).write_text(SECRET)
        done = self.make()
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertEqual(self.made(), {"policy/acme.toml", "policy/beta.toml", "policy/beta.pem"})
        for name in self.made():
            self.assertNotIn(SECRET, (self.artifacts / name).read_text())
            self.assertEqual((self.artifacts / name).stat().st_mode & 0o777, 0o644, "the function could not read it")

    def test_forgets_what_an_earlier_build_left(self) -> None:
        self.tenant("acme")
        self.tenant("gone")
        self.assertEqual(self.make().returncode, 0)
        (self.policy / "gone.toml").unlink()
        self.assertEqual(self.make().returncode, 0)
        self.assertEqual(self.made(), {"policy/acme.toml"})

    def test_needs_a_tenant(self) -> None:
        self.assert_refused("policy/<tenant>.toml", "examples/aws/acme.toml", "docs/operations.md")
        self.assertEqual(self.made(), set())

    def test_refuses_what_the_function_cannot_read(self) -> None:
        for line in (
            'secret = "env:ACME_KEY"',
            "secret = 'file:acme.secret'",
            'secret = "file:beta.pem"',
            '"secret" = "file:beta.pem" # public_key = "x"',
            'not_public_key = "file:beta.pem"',
            'headers = { a = "secretsmanager:x#y", b = "file:../outside.pem" }',
            'headers = { a = "file:beta.pem", b = "env:B" }',
            'headers = { a = "secretsmanager:x #y", b = "env:B" }',
            'headers = { public_key = "file:beta.pem", b = "file:beta.pem" }',
            """headers = { a = 'has a "quote" #', b = 'env:B' }""",
            r'headers = { a = "\\\" # \\", b = "env:B" }',
        ):
            with self.subTest(line=line):
                self.pem("PUBLIC KEY")
                self.tenant("acme", line)
                self.assert_refused("`acme.toml`, line 2", "secretsmanager:NAME#FIELD", "ssm:/NAME")

    def test_refuses_a_public_key_that_is_elsewhere(self) -> None:
        for reference in ("file:../beta.pem", "file:/etc/beta.pem", "file:beta.secret"):
            self.tenant("acme", f'public_key = "{reference}"')
            self.assert_refused(f"`{reference}`", "beside the policy")

    def test_refuses_what_could_hide_a_reference(self) -> None:
        for line, word in (
            (r'secret = "e\u006ev:X"', r"the escape `\u`"),
            (r'secret = "\U00000065nv:X"', r"the escape `\U`"),
            (r'secret = "\x65nv:X"', r"the escape `\x`"),
            (r'headers = { a = "\\\u0065nv:X" }', r"the escape `\u`"),
            ('secret = """\nenv:X"""', "three quotes"),
            ("secret = '''\nenv:X'''", "three quotes"),
            ('secret = "env:X', "closing quote"),
        ):
            with self.subTest(line=line):
                self.tenant("acme", line)
                self.assert_refused("`acme.toml`, line 2", word)
        self.tenant("acme", r"description = 'a \u in it' # \u", r'[[allow]] # "', r'host = "a \\u \" #"')
        self.assertEqual(self.make().returncode, 0, "no escape, but it looks like one")

    def test_refuses_a_private_key(self) -> None:
        self.tenant("acme")
        for kind in ("PRIVATE KEY", "EC PRIVATE KEY", "ENCRYPTED PRIVATE KEY"):
            self.pem(kind)
            self.assert_refused("beta.pem", "private key")
            self.pem("CERTIFICATE", after=(self.policy / "beta.pem").read_text())
            self.assert_refused("beta.pem", "private key")

    def test_takes_public_keys_and_certificates(self) -> None:
        self.tenant("acme")
        for kind, before, after in (("PUBLIC KEY", "\r\n\n", "\n"), ("CERTIFICATE", "", "")):
            self.pem(kind, before, after)
            self.assertEqual(self.make().returncode, 0)

    def test_refuses_everything_else_that_is_called_pem(self) -> None:
        """A secret between strangers is the likeliest: it needs no policy to be uploaded."""
        self.tenant("acme")
        for kind, before, after in (
            ("PUBLIC KEY", f"{SECRET}\n", ""),
            ("PUBLIC KEY", "", f"{SECRET}\n"),
            ("PUBLIC KEY", "", "-----BEGIN OPENSSH KEY-----\n"),
            ("PUBLIC KEY", "", "-----BEGIN CERTIFICATE-----\n"),
            ("RSA PUBLIC KEY", "", ""),
            ("EC PARAMETERS", "", ""),
        ):
            with self.subTest(kind=kind, before=before, after=after):
                self.pem(kind, before, after)
                self.assert_refused("`beta.pem` is no public key", "BEGIN PUBLIC KEY", ".secret")
        for text in ("", SECRET, "sluicegate_key_A1b2C3d4", f"-----BEGIN PUBLIC KEY-----\n{SECRET}\n"):
            (self.policy / "beta.pem").write_text(text)
            self.assert_refused("`beta.pem` is no public key")
        self.assertEqual({name for name in self.made() if name.endswith(".pem")}, set())

    def test_refuses_symbolic_links(self) -> None:
        outside = self.policy.parent / "outside"
        outside.write_text('tenant = "beta"\n')
        self.tenant("acme")
        (self.policy / "beta.toml").symlink_to(outside)
        self.assert_refused("`beta.toml` is no regular file")
        (self.policy / "beta.toml").unlink()
        self.pem("PUBLIC KEY")
        (self.policy / "beta.pem").rename(outside)
        (self.policy / "beta.pem").symlink_to(outside)
        self.assert_refused("`beta.pem` is no regular file")

    def test_refuses_to_run_without_a_place_to_put_it(self) -> None:
        done = subprocess.run(
            ["make", "build-PolicyLayer"],
            cwd=self.policy,
            capture_output=True,
            text=True,
            env={"PATH": "/usr/bin:/bin"},
        )
        self.assertNotEqual(done.returncode, 0)
        self.assertIn("ARTIFACTS_DIR", done.stderr)


class TheExample(unittest.TestCase):
    def test_is_for_the_stack_as_it_is_deployed_by_default(self) -> None:
        policy = tomllib.loads((ROOT / "examples" / "aws" / "acme.toml").read_text(encoding="utf-8"))
        name = tomllib.loads((ROOT / "samconfig.toml").read_text())["default"]["global"]["parameters"]["stack_name"]
        first = read()["Parameters"]["FirstKeyId"]["Default"]
        self.assertEqual(
            [(key["id"], key["secret"]) for key in policy["keys"]], [(first, f"secretsmanager:{name}/keys#{first}")]
        )
        self.assertEqual(policy["tenant"], "acme")

    def test_is_valid_by_the_schema_also_with_everything_switched_on(self) -> None:
        schema = json.loads((ROOT / "policy" / "schema.json").read_text())
        text = (ROOT / "examples" / "aws" / "acme.toml").read_text(encoding="utf-8")
        # Prose stands behind `# `, a setting that is switched off directly behind `#`.
        everything = "\n".join(
            line[1:] if line.startswith("#") and not line.startswith(("# ", "#:")) else line
            for line in text.splitlines()
        )
        for version in (text, everything):
            # JSON has no moments; the schema takes them as text.
            jsonschema.validate(json.loads(json.dumps(tomllib.loads(version), default=str)), schema)
        self.assertEqual(
            set(tomllib.loads(everything)),
            {
                "tenant",
                "description",
                "max_link_lifetime",
                "keys",
                "issuers",
                "allow",
                "limits",
                "response",
                "upstream",
                "revoked",
            },
        )


if __name__ == "__main__":
    unittest.main()
