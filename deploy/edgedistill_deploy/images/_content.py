"""What a file is, by its first bytes."""

from collections.abc import Mapping

HEAD_BYTES = 64

_IMAGES: Mapping[bytes, str] = {
    b"\xff\xd8\xff": "JPEG",
    b"\x89PNG\r\n\x1a\n": "PNG",
    b"GIF8": "GIF",
    b"II*\0": "TIFF",
    b"MM\0*": "TIFF",
}
_OTHERS: Mapping[bytes, str] = {
    b"%PDF": "a PDF",
    b"PK\3\4": "a ZIP archive",
    b"8BPS": "a Photoshop picture",
    b"version https://git-lfs": "a pointer of Git LFS, so fetch the files with `git lfs pull`",
}
_HEIC_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")


def image_format_of(head: bytes) -> str:
    """Return "JPEG", "PNG", "GIF", "TIFF", "WEBP" or "AVIF" by a file's first bytes, "" for anything else."""
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "WEBP"
    if head[4:12] in (b"ftypavif", b"ftypavis"):
        return "AVIF"
    return next((name for start, name in _IMAGES.items() if head.startswith(start)), "")


def describe_content(head: bytes) -> str:
    """Return what a file that is no readable image seems to be, such as "a web page"; "" when that is not known."""
    if head[4:8] == b"ftyp":
        return "HEIC" if head[8:12] in _HEIC_BRANDS else "a video"
    text = head.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if text.startswith((b"<!doctype html", b"<html")):
        return "a web page"
    if text.startswith((b"<svg", b"<?xml")):
        return "SVG or other XML"
    return next((name for start, name in _OTHERS.items() if head.startswith(start)), "")
