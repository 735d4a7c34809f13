#!/usr/bin/env python3
"""Makes tests/golden/jpeg/*.jpg and tests/golden/pillow_jpeg.json: small JPEG files of every kind, boxes, and the FNV-1a
hashes of what Pillow makes of them (decode, convert to RGB, crop, resize bilinear, flip; and torchvision's Resize +
CenterCrop for evaluation). Needs Pillow >= 13, numpy and cjpeg of libjpeg-turbo in $PATH. The results are committed."""
import json
import pathlib
import random
import subprocess
import tempfile

import numpy as np
import PIL
from PIL import Image

HERE = pathlib.Path(__file__).resolve().parent
JPEG = HERE / "jpeg"
RNG = np.random.default_rng(20)
BOXES = random.Random(20)


def photo(width, height):
    """A smooth field with some texture, as photographs are."""
    field = RNG.normal(size=(height // 9 + 2, width // 9 + 2, 3)) * 60 + 128
    smooth = Image.fromarray(field.clip(0, 255).astype("u1")).resize((width, height), Image.BICUBIC)
    return Image.fromarray((np.asarray(smooth) + RNG.normal(size=(height, width, 3)) * 6).clip(0, 255).astype("u1"))


def cjpeg(image, path, *arguments):
    with tempfile.NamedTemporaryFile(suffix=".ppm") as ppm:
        image.save(ppm.name)
        subprocess.run(["cjpeg", "-quality", "85", *arguments, "-outfile", path, ppm.name], check=True)


def fnv1a(data):
    h = 14695981039346656037
    for byte in data:
        h = (h ^ byte) * 1099511628211 & (2**64 - 1)
    return f"{h:016x}"


def center(image, resize, px):
    w, h = image.size
    size = (resize, int(resize * h / w)) if w <= h else (int(resize * w / h), resize)
    image = image.resize(size, Image.BILINEAR)
    left, top = int(round((image.width - px) / 2.0)), int(round((image.height - px) / 2.0))
    return image.crop((left, top, left + px, top + px))


def make_files():
    JPEG.mkdir(exist_ok=True)
    sampled = [("444", "1x1"), ("422", "2x1"), ("420", "2x2"), ("440", "1x2"), ("411", "4x1"), ("410", "4x2"), ("24", "2x4")]
    for name, factors in sampled:
        cjpeg(photo(97, 83), JPEG / f"s{name}.jpg", "-sample", factors)
        cjpeg(photo(90, 101), JPEG / f"p{name}.jpg", "-sample", factors, "-progressive")
    cjpeg(photo(120, 77), JPEG / "restart.jpg", "-restart", "2B")
    cjpeg(photo(71, 55), JPEG / "rgb.jpg", "-rgb")
    cjpeg(photo(66, 40), JPEG / "arithmetic.jpg", "-arithmetic")
    cjpeg(photo(60, 90), JPEG / "optimised.jpg", "-optimize")
    photo(88, 64).convert("L").save(JPEG / "grey.jpg", quality=85)
    photo(88, 64).convert("CMYK").save(JPEG / "cmyk.jpg", quality=85)
    photo(75, 64).convert("CMYK").save(JPEG / "cmyk420.jpg", quality=85, subsampling=2)
    for w, h in ((1, 1), (1, 50), (50, 1), (2, 2), (7, 9), (17, 3)):
        photo(w, h).save(JPEG / f"size_{w}x{h}.jpg", quality=85)
    turned = Image.Exif()
    turned[0x112] = 6
    photo(64, 48).save(JPEG / "exif_rotated.jpg", quality=85, exif=turned)
    photo(250, 60).save(JPEG / "wide.jpg", quality=70)
    photo(60, 250).save(JPEG / "tall.jpg", quality=70)


def make_cases():
    cases = []
    for path in sorted(JPEG.glob("*.jpg")):
        try:
            image = Image.open(path).convert("RGB")
        except OSError:  # this Pillow has no arithmetic decoder: take the pixels of djpeg
            ppm = subprocess.run(["djpeg", str(path)], check=True, capture_output=True).stdout
            with tempfile.NamedTemporaryFile(suffix=".ppm") as f:
                f.write(ppm)
                f.flush()
                image = Image.open(f.name).convert("RGB")
        w, h = image.size
        boxes = [(0, 0, w, h)]
        for _ in range(7):
            bw, bh = BOXES.randint(1, w), BOXES.randint(1, h)
            boxes.append((BOXES.randint(0, w - bw), BOXES.randint(0, h - bh), bw, bh))
        for x, y, bw, bh in boxes:
            px, flip = BOXES.choice([1, 3, 16, 31, 32, 64, 100, 224]), BOXES.randint(0, 1)
            out = image.crop((x, y, x + bw, y + bh)).resize((px, px), Image.BILINEAR)
            out = out.transpose(Image.FLIP_LEFT_RIGHT) if flip else out
            cases.append({"file": path.name, "box": [x, y, bw, bh, flip], "px": px, "fnv1a": fnv1a(out.tobytes())})
        for resize, px in ((256, 224), (36, 32), (33, 32)):
            cases.append({"file": path.name, "resize": resize, "px": px, "fnv1a": fnv1a(center(image, resize, px).tobytes())})
    return cases


if __name__ == "__main__":
    make_files()
    body = ",\n".join(json.dumps(case) for case in make_cases())
    (HERE / "pillow_jpeg.json").write_text(f'{{"pillow": "{PIL.__version__}", "cases": [\n{body}\n]}}\n')
