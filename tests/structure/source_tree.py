"""The files that the structure tests look at."""
import os

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
FOLDERS = ("proto", "coordinator", "worker", "models", "parallel", "deploy", "tests")
DATA = (".json", ".jsonl", ".safetensors", ".gguf", ".npz", ".gz", ".pyc")


def read(path):
    with open(os.path.join(ROOT, path), encoding="utf-8") as file:
        return file.read()


def paths():
    """All files of ours, from the root: the folders', and those that stand beside them."""
    beside = [name for name in os.listdir(ROOT) if os.path.isfile(os.path.join(ROOT, name)) and name != ".git"]
    found = beside + [os.path.join(".ci", "run")]
    for folder in FOLDERS:
        for directory, _, names in os.walk(os.path.join(ROOT, folder)):
            found += [os.path.relpath(os.path.join(directory, name), ROOT) for name in names]
    return sorted(found)


def sources(*endings):
    """{path from the root: text} of our files with these endings."""
    return {path: read(path) for path in paths() if path.endswith(endings)}


def texts():
    """The same of all that people write: everything but data."""
    return {path: read(path) for path in paths() if not path.endswith(DATA)}


def report(problems, fine):
    """Prints the problems, or the line that says all is well; the exit code."""
    print("\n".join(problems) or fine)
    return 1 if problems else 0
