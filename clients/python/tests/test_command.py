"""`python -m sluicegate`: links and downloads from a shell, without a secret among the arguments."""

import os
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

from hostile import Hostile, answer

SECRET = "sgk1_0123456789abcdefghijklmnopqrstuvwxyzABCDEFG"
MINT = ("mint", "--base", "https://gateway.example", "--kid", "k", "--url", "https://files.example/a", "--exp", "5")
SIGNED = "https://gateway.example/?url=https%3A%2F%2Ffiles.example%2Fa&kid=k&exp=5&sig="


class Command(unittest.TestCase):
    def setUp(self) -> None:
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)

    def run_it(self, *arguments: str, secret: str | None = None, given: str = "") -> subprocess.CompletedProcess[str]:
        environment = {**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parent.parent / "src")}
        environment |= {} if secret is None else {"SLUICEGATE_SECRET": secret}
        command = [sys.executable, "-m", "sluicegate", *arguments]
        done = subprocess.run(command, env=environment, cwd=self.folder, input=given, capture_output=True, text=True)
        self.assertNotIn(SECRET, done.stdout + done.stderr)
        self.assertNotIn("Traceback", done.stderr)
        return done

    def test_mint_with_either_place_of_the_secret(self) -> None:
        for end in ("", "\n", "\r\n"):
            (self.folder / "s").write_bytes((SECRET + end).encode())
            links = {
                self.run_it(*MINT, secret=SECRET).stdout,
                self.run_it(*MINT, "--secret-file", "s").stdout,
            }
            self.assertEqual(len(links), 1)
            self.assertTrue(links.pop().startswith(SIGNED))

    def test_mint_with_every_option(self) -> None:
        options = "--align-to 300 --not-before 7 --filename ü.pdf --disposition inline --id i --ip 203.0.113.0/24"
        link = self.run_it(*MINT, *options.split(), secret=SECRET).stdout
        expected = "&exp=300&nbf=7&filename=%C3%BC.pdf&disposition=inline&id=i&ip=203.0.113.0%2F24&sig="
        self.assertIn(expected, link)

    def test_what_cannot_be_minted(self) -> None:
        (self.folder / "binary").write_bytes(b"\xff" * 40)
        for arguments, text in (
            (MINT, "--secret-file"),
            ((*MINT, "--secret-file", "none"), "`none`"),
            ((*MINT, "--secret-file", "binary"), "`binary`"),
            ((*MINT, "--secret-file", "."), "`.`"),
            ((*MINT, "--filename", "a/b"), "filename `a/b`"),
            ((*MINT, "--expires-in", "1h"), "`1h`"),
            ((*MINT, "--secret", SECRET[:20]), "unrecognized arguments"),
        ):
            with self.subTest(arguments=arguments):
                done = self.run_it(*arguments, secret=SECRET if "filename" in text else None)
                self.assertEqual((done.returncode, done.stdout), (2, ""))
                self.assertIn(text, done.stderr)

    def test_a_secret_in_the_wrong_place_is_not_shown(self) -> None:
        for known in (SECRET, "a-secret/of another form, 0123456789"):
            for arguments in (
                (*MINT, "--secret-file", known),
                (*MINT, f"--{known}=x"),
                (*MINT, known),
                (*MINT, "--align-to", known),
                (*MINT, "--base", known),
                (*MINT, "--id", "/" + known),
                (known,),
                ("download", "http://127.0.0.1/?x", "none/" + known + "/a"),
            ):
                with self.subTest(arguments=arguments):
                    done = self.run_it(*arguments, secret=known)
                    self.assertEqual((done.returncode, done.stdout), (2, ""))
                    self.assertNotIn(known[5:12], done.stderr)

    def test_a_secret_file_that_is_too_long(self) -> None:
        (self.folder / "s").write_text(SECRET * 400)
        done = self.run_it(*MINT, "--secret-file", "s")
        self.assertEqual((done.returncode, done.stdout), (2, ""))
        self.assertIn("`s`: it has more than 16 KiB", done.stderr)

    def test_download(self) -> None:
        body = answer(b"content", content_disposition="attachment; filename=a.txt")
        with Hostile(body, body) as server:
            done = self.run_it("download", server.link)
            self.assertEqual((done.returncode, done.stdout), (0, "a.txt\n"))
            done = self.run_it("download", "-", "b.txt", "--quiet", given=server.link + "\n")
            self.assertEqual((done.returncode, done.stdout), (0, ""))
        self.assertEqual([(self.folder / name).read_bytes() for name in ("a.txt", "b.txt")], [b"content"] * 2)

    def test_a_file_that_is_there(self) -> None:
        body = answer(b"content", content_disposition="attachment; filename=a.txt")
        (self.folder / "a.txt").write_bytes(b"mine")
        with Hostile(body, body) as server:
            done = self.run_it("download", server.link)
            text = "sluicegate: `a.txt` is there already; choose another destination, or add --overwrite\n"
            self.assertEqual((done.returncode, done.stderr), (1, text))
            self.assertEqual((self.folder / "a.txt").read_bytes(), b"mine")
            self.assertEqual(self.run_it("download", server.link, "--overwrite").returncode, 0)
        self.assertEqual((self.folder / "a.txt").read_bytes(), b"content")

    def test_no_folder(self) -> None:
        done = self.run_it("download", "http://127.0.0.1/?url=x", "none/")
        text = "sluicegate: destination `none/`: there is no such folder; make it first\n"
        self.assertEqual((done.returncode, done.stderr), (2, text))
        self.assertEqual(list(self.folder.iterdir()), [])

    def test_no_download(self) -> None:
        with Hostile(answer(status="403 Forbidden")) as server:
            done = self.run_it("download", server.link)
        self.assertEqual((done.returncode, done.stdout), (1, ""))
        self.assertNotIn("sig=", done.stderr)
        self.assertEqual(self.run_it("download", "file:///etc/passwd").returncode, 2)


if __name__ == "__main__":
    unittest.main()
