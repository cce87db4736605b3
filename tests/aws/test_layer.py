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

    def assert_refused(self, *words: str) -> None:
        done = self.make()
        self.assertNotEqual(done.returncode, 0, done.stdout)
        for word in words:
            self.assertIn(word, done.stderr)

    def test_takes_policies_and_public_keys_and_no_secret(self) -> None:
        shutil.copy(ROOT / "examples" / "aws" / "acme.toml", self.policy)
        self.tenant("beta", '#secret = "env:HOME_ONLY"', 'public_key = "file:beta.pem" # not "file:beta.secret"')
        (self.policy / "beta.pem").write_text("-----BEGIN PUBLIC KEY-----\n")
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
            'headers = { a = "secretsmanager:x#y", b = "file:../outside.pem" }',
            'headers = { a = "file:a.pem", b = "env:B" }',
        ):
            with self.subTest(line=line):
                self.tenant("acme", line)
                self.assert_refused("acme.toml", "secretsmanager:NAME#FIELD", "ssm:/NAME")

    def test_refuses_a_private_key(self) -> None:
        self.tenant("acme")
        (self.policy / "acme.pem").write_text("-----BEGIN EC PRIVATE KEY-----\n")
        self.assert_refused("acme.pem", "private key")

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
