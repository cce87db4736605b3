#!/usr/bin/env python3
"""Makes the sample files in this folder. Needs ffmpeg with libx264 for clip.mp4; the rest is plain Python.

    python3 examples/sample/make.py

The files are committed, so that nobody needs this script to run the demo. It is here to say what is in them.
"""

import subprocess
from pathlib import Path

HERE = Path(__file__).resolve().parent

NOTES = """\
Sluicegate sample notes
=======================

This file is plain text in UTF-8, so that a download can be checked by eye as well as by checksum.

English   The quick brown fox jumps over the lazy dog.
Русский   Съешь же ещё этих мягких французских булок, да выпей чаю.
中文      天地玄黃，宇宙洪荒。日月盈昃，辰宿列張。
日本語    いろはにほへと ちりぬるを
Ελληνικά  Ξεσκεπάζω την ψυχοφθόρα βδελυγμία.
العربية   نص حكيم له سر قاطع وذو شأن عظيم.

A range request for bytes 0-22 returns the first line without its line break.
"""

PAGES = [
    [
        (20, "Sluicegate sample handbook"),
        (11, "Page 1 of 2"),
        (11, ""),
        (11, "This document is served by the sample upstream that is built into the demo."),
        (11, "It is a small, valid PDF, so that a browser shows it when a link says"),
        (11, "disposition=inline, and saves it under its signed name otherwise."),
        (11, ""),
        (11, "Things to try with a minted link:"),
        (11, "1. Change one character of the url. The gateway answers 403 invalid_signature."),
        (11, "2. Add utm_source=mail to the link. It still works: unknown names are ignored."),
        (11, "3. Ask for a part: curl -r 0-99. The gateway answers 206 with Content-Range."),
    ],
    [
        (20, "What the gateway promises"),
        (11, "Page 2 of 2"),
        (11, ""),
        (11, "A file arrives whole, or the transfer fails visibly."),
        (11, "The name of the file is the signed one, in any script."),
        (11, "Nothing is fetched that the tenant's policy does not allow."),
    ],
]


def pdf(pages: list[list[tuple[int, str]]]) -> bytes:
    """A PDF 1.4 file with one font and a cross-reference table whose offsets are exact."""
    font, first_page = 3, 4
    kids = " ".join(f"{first_page + 2 * number} 0 R" for number in range(len(pages)))
    objects = [
        b"<< /Type /Catalog /Pages 2 0 R /Lang (en) >>",
        f"<< /Type /Pages /Kids [{kids}] /Count {len(pages)} >>".encode(),
        b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica /Encoding /WinAnsiEncoding >>",
    ]
    for number, lines in enumerate(pages):
        stream = content(lines)
        page = (
            f"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 595 842] "
            f"/Resources << /Font << /F1 {font} 0 R >> >> /Contents {first_page + 2 * number + 1} 0 R >>"
        )
        objects.append(page.encode())
        objects.append(b"<< /Length %d >>\nstream\n%s\nendstream" % (len(stream), stream))
    info = len(objects) + 1
    objects.append(b"<< /Title (Sluicegate sample handbook) /Author (The Sluicegate developers) >>")
    # The comment with bytes above 127 tells transfer tools that the file is binary (ISO 32000-1, 7.5.2).
    out = bytearray(b"%PDF-1.4\n%\xe2\xe3\xcf\xd3\n")
    offsets = []
    for number, body in enumerate(objects, start=1):
        offsets.append(len(out))
        out += b"%d 0 obj\n%s\nendobj\n" % (number, body)
    table = len(out)
    out += b"xref\n0 %d\n0000000000 65535 f \n" % (len(objects) + 1)
    out += b"".join(b"%010d 00000 n \n" % offset for offset in offsets)
    out += b"trailer\n<< /Size %d /Root 1 0 R /Info %d 0 R >>\n" % (len(objects) + 1, info)
    out += b"startxref\n%d\n%%%%EOF\n" % table
    return bytes(out)


def content(lines: list[tuple[int, str]]) -> bytes:
    out = ["BT", "72 760 Td"]
    for size, text in lines:
        escaped = text.replace("\\", r"\\").replace("(", r"\(").replace(")", r"\)")
        out += [f"/F1 {size} Tf", f"({escaped}) Tj", f"0 -{size + 7} Td"]
    return "\n".join([*out, "ET"]).encode("cp1252")


def clip(path: Path) -> None:
    """Three seconds of test picture and a 440 Hz tone, the index in front so that playing can begin at once."""
    subprocess.run(
        [
            "ffmpeg", "-y", "-loglevel", "error", "-nostdin",
            "-f", "lavfi", "-i", "testsrc=size=320x180:rate=24:duration=3",
            "-f", "lavfi", "-i", "sine=frequency=440:sample_rate=44100:duration=3",
            "-c:v", "libx264", "-preset", "veryslow", "-crf", "32", "-pix_fmt", "yuv420p", "-profile:v", "main",
            "-c:a", "aac", "-b:a", "48k", "-ac", "1",
            "-movflags", "+faststart", "-map_metadata", "-1", "-fflags", "+bitexact",
            "-flags:v", "+bitexact", "-flags:a", "+bitexact", str(path),
        ],
        check=True,
    )


if __name__ == "__main__":
    (HERE / "notes.txt").write_bytes(NOTES.encode())
    (HERE / "handbook.pdf").write_bytes(pdf(PAGES))
    clip(HERE / "clip.mp4")
