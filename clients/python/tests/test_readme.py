"""The README's examples as they stand there: they run, and a gateway takes what they make."""

import os
import re
import subprocess
import tempfile
import unittest
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any

from hostile import Hostile, answer
from test_mint import SECRET

README = Path(__file__).resolve().parent.parent / "README.md"
BINARY = os.environ.get("SLUICEGATE_BINARY")
POLICY = """
tenant = "acme"
[[issuers]]
issuer = "https://backend.example.com/"
audience = "sluicegate-demo"
[[issuers.keys]]
id = "2027-01"
algorithm = "HS256"
secret = "file:backend.secret"
[[issuers.keys]]
id = "2027-02"
algorithm = "EdDSA"
public_key = "file:backend.pub"
[[allow]]
host = "files.example"
"""


def examples() -> list[str]:
    return re.findall(r"^```python\n(.*?)^```", README.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)


class Readme(unittest.TestCase):
    def setUp(self) -> None:
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)
        self.addCleanup(os.chdir, os.getcwd())
        os.chdir(self.folder)

    def test_the_first_example(self) -> None:
        (self.folder / "downloads").mkdir()
        with Hostile(answer(b"%PDF", content_disposition="attachment; filename=a.pdf")) as server:
            found: dict[str, Any] = {"secret": SECRET}
            with redirect_stdout(StringIO()) as said:
                exec(examples()[0].replace("https://gateway.example", server.base), found)
        self.assertTrue(said.getvalue().endswith("\n4 4\ndownloads/a.pdf application/octet-stream\n"), said.getvalue())
        self.assertEqual((self.folder / "downloads" / "a.pdf").read_bytes(), b"%PDF")
        self.assertIn("&filename=Annual%20report.pdf&", server.requests[0][":path"])

    def test_every_code_is_explained(self) -> None:
        sources = (README.parent / "src" / "sluicegate").glob("*.py")
        codes = {code for file in sources for code in re.findall(r'code="([a-z_]+)"', file.read_text(encoding="utf-8"))}
        self.assertGreaterEqual(len(codes), 8)
        table = (README.parent.parent / "README.md").read_text(encoding="utf-8")
        self.assertEqual([code for code in codes if f"| `{code}` |" not in table], [])

    @unittest.skipUnless(BINARY, "SLUICEGATE_BINARY names no gateway")
    def test_a_gateway_takes_the_tokens(self) -> None:
        Path("backend.secret").write_text(SECRET + "\n")
        for command in ("genpkey -algorithm ed25519 -out backend.pem", "pkey -in backend.pem -pubout -out backend.pub"):
            subprocess.run(["openssl", *command.split()], check=True, capture_output=True)
        Path("acme.toml").write_text(POLICY)
        found: dict[str, Any] = {}
        exec(examples()[1], found)
        self.assertEqual(len(found["links"]), 2)
        explain = [str(BINARY), "explain", "--policy", "acme.toml"]
        for link in found["links"]:
            explained = subprocess.run([*explain, link], capture_output=True, text=True)
            self.assertEqual(explained.returncode, 0, explained.stdout + explained.stderr)
        tampered = [*explain, found["links"][0][:-9] + "AAAAAAAAA"]
        self.assertEqual(subprocess.run(tampered, capture_output=True).returncode, 1)


if __name__ == "__main__":
    unittest.main()
