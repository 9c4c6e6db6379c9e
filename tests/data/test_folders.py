"""Folders of images: links, hidden and unreadable folders, what was left out, and folders that are classes."""

import logging
import os

import numpy as np
import pytest
from PIL import Image

from ms_ddpm import config
from ms_ddpm.data import folders as _folders
from ms_ddpm.data import open_configured, open_images, prepare
from ms_ddpm.errors import UserError


def save(path, value=0, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("L", (4, 4), value).save(path, **options)
    return path


def opened(folder, **options):
    return open_images(folder, image_size=(4, 4), channels=1, **options)


def levels(source):
    return source.batch(range(len(source)))[:, 0, 0, 0].tolist()


@pytest.fixture
def warnings(caplog):
    caplog.set_level(logging.WARNING, "ms_ddpm")
    return lambda: [record.getMessage() for record in caplog.records]


def test_a_linked_folder_is_followed(tmp_path, warnings):
    save(tmp_path / "elsewhere" / "deep" / "x.png", 30)
    save(tmp_path / "set" / "cats" / "a.png", 10)
    (tmp_path / "set" / "dogs").symlink_to(tmp_path / "elsewhere")
    source = opened(tmp_path / "set")
    assert levels(source) == [10, 30]
    assert source.names == ["cats/a.png", "dogs/deep/x.png"]
    assert source.name == str(tmp_path / "set")
    assert warnings() == []
    (tmp_path / "link").symlink_to(tmp_path / "set")
    assert levels(opened(tmp_path / "link")) == [10, 30]


def test_loops_are_found_and_named_and_no_image_is_taken_twice(tmp_path, warnings):
    save(tmp_path / "other.png", 99)  # above the data set: no part of it
    save(tmp_path / "set" / "a" / "x.png", 10)
    save(tmp_path / "outside" / "y.png", 20)
    (tmp_path / "set" / "a" / "up").symlink_to("..")
    (tmp_path / "set" / "above").symlink_to("../..")
    (tmp_path / "set" / "Again").symlink_to("a")  # its real name is known by then, whatever sorts first
    (tmp_path / "set" / "b").symlink_to("../outside")
    (tmp_path / "outside" / "back").symlink_to(tmp_path / "set")
    source = opened(tmp_path / "set")
    assert source.names == ["a/x.png", "b/y.png"]
    (line,) = warnings()
    assert line == f"left out of {tmp_path / 'set'}: 4 links to folders that are searched anyway (Again, ...)"


def test_hidden_files_and_folders_are_left_out_and_not_counted(tmp_path, warnings):
    save(tmp_path / "a.png", 1)
    save(tmp_path / ".thumbnails" / "b.png", 2)
    save(tmp_path / "c" / ".cache" / "d.png", 3)
    save(tmp_path / ".e.png", 4)
    (tmp_path / ".DS_Store").write_bytes(b"")
    assert levels(opened(tmp_path)) == [1]
    assert warnings() == []
    save(tmp_path / ".set" / "f.png", 5)
    assert levels(opened(tmp_path / ".set")) == [5]  # who names it wants it


def test_what_is_left_out_is_counted_and_named_once(tmp_path, warnings):
    save(tmp_path / "a.png", 1)
    for number in range(3):
        Image.new("L", (4, 4)).save(tmp_path / f"{number}.gif")
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "notes.txt").write_text("x")
    (tmp_path / "README").write_text("x")
    os.mkfifo(tmp_path / "pipe.png")
    source = opened(tmp_path)
    (line,) = warnings()
    assert line.startswith(f"left out of {tmp_path}: 3 .gif files (0.gif, ...), ")
    for words in ("1 .txt files (deep/notes.txt)", "1 nameless files (README)", "1 that are no files (pipe.png)"):
        assert words in line
    levels(source)
    assert len(warnings()) == 1


def test_many_kinds_are_one_line(tmp_path, warnings):
    save(tmp_path / "a.png", 1)
    for number in range(12):
        (tmp_path / f"x.{number}\n").write_text("x")
    opened(tmp_path)
    (line,) = warnings()
    assert line.endswith(" and 7 more kinds")
    assert line.isprintable()


def test_a_folder_of_nothing_but_gifs_says_so(tmp_path):
    Image.new("L", (4, 4)).save(tmp_path / "a.gif")
    with pytest.raises(UserError, match=r"has no images \(left out: 1 \.gif files \(a\.gif\)\); expected a folder of"):
        opened(tmp_path)


def test_an_unreadable_folder_is_left_out_by_name(tmp_path, warnings, monkeypatch):
    save(tmp_path / "a.png", 1)
    (tmp_path / "lost+found").mkdir()
    scan = os.scandir

    def closed(path):
        if str(path).endswith("lost+found"):
            raise PermissionError(13, "Permission denied", str(path))
        return scan(path)

    monkeypatch.setattr(_folders.os, "scandir", closed)
    assert levels(opened(tmp_path)) == [1]
    assert warnings() == [f"left out of {tmp_path}: 1 unreadable folders: Permission denied (lost+found)"]


def test_a_path_beyond_the_limit_is_left_out_by_name(tmp_path, warnings):
    save(tmp_path / "set" / "a.png", 1)
    here = os.getcwd()
    os.chdir(tmp_path / "set")
    try:
        left = 4000 - len(os.fsencode(tmp_path / "set"))  # a path may have 4096 bytes, wherever pytest put this one
        while left > 1:
            name = "d" * min(200, left - 1)
            os.mkdir(name)
            os.chdir(name)
            left -= len(name) + 1
        for name in ("e" * 200, "b.png"):
            os.mkdir(name)
    finally:
        os.chdir(here)
    try:
        assert levels(opened(tmp_path / "set")) == [1]
        (line,) = warnings()
        assert line.startswith(f"left out of {tmp_path / 'set'}: 1 unreadable folders: File name too long (ddd")
    finally:
        import subprocess

        subprocess.run(["rm", "-rf", tmp_path / "set"], check=True)


def test_further_frames_and_pages_are_counted_and_named_once(tmp_path, warnings):
    pages = [Image.new("L", (4, 4), level) for level in (10, 20, 30)]
    save(tmp_path / "single.tif", 5)
    pages[0].save(tmp_path / "a.tif", save_all=True, append_images=pages[1:])
    pages[0].save(tmp_path / "b.png", "GIF", save_all=True, append_images=pages[1:2])
    pages[0].save(tmp_path / "c.webp", save_all=True, append_images=pages[1:2], lossless=True)
    source = opened(tmp_path)
    assert warnings() == []  # files are not opened before they are needed
    assert levels(source) == [10, 10, 10, 5]
    assert levels(source) == [10, 10, 10, 5]
    assert warnings() == [
        f"left out of {tmp_path}: 2 further frames or pages of a.tif; the first of a file is its image",
        f"left out of {tmp_path}: 4 further frames or pages in all, of 3 files",
    ]


def test_pages_are_counted_once_where_images_are_read_again_and_again(tmp_path, warnings, monkeypatch):
    from ms_ddpm import data

    monkeypatch.setattr(data, "CACHE_BYTES", 0)
    page = Image.new("L", (4, 4))
    page.save(tmp_path / "a.tif", save_all=True, append_images=[page])
    source = opened(tmp_path)
    for _ in range(3):
        source.get(0)
    assert len(warnings()) == 1


def test_an_unreadable_data_set_names_the_place(tmp_path):
    with pytest.raises(UserError, match=r"x{100}.* cannot be read \(File name too long\)"):
        opened(tmp_path / ("x" * 5000))


# ---- folders as classes ------------------------------------------------------------------------------------------


@pytest.fixture
def classes(tmp_path):
    save(tmp_path / "set" / "dogs" / "a.png", 40)
    save(tmp_path / "set" / "Cats" / "b.png", 10)
    save(tmp_path / "set" / "birds" / "young" / "c.png", 20)
    save(tmp_path / "set" / "birds" / "d.png", 30)
    save(tmp_path / "elsewhere" / "e.png", 50)
    (tmp_path / "set" / "emus").symlink_to("../elsewhere")
    return tmp_path / "set"


def test_each_folder_is_a_class_numbered_by_name(classes):
    source = opened(classes, labels_from="folders")
    assert source.class_names == ["Cats", "birds", "dogs", "emus"]
    assert levels(source) == [10, 30, 20, 40, 50]
    assert (source.labels.tolist(), source.labels.dtype) == ([0, 1, 1, 2, 3], np.int32)
    part = source.subset([3, 0])
    assert (part.labels.tolist(), part.class_names) == ([2, 0], source.class_names)
    assert opened(classes).labels is None


def test_a_conditional_model_trains_on_them(classes):
    class Four:
        channels, image_size, conditional, num_classes = 1, (4, 4), True, 4

    train, held = prepare(opened(classes, labels_from="folders"), Four(), 2, 0)
    level_of = {10: 0, 30: 1, 20: 1, 40: 2, 50: 3}
    for part in (train, held):
        assert part.labels.tolist() == [level_of[level] for level in levels(part)]


def test_their_number_must_be_num_classes(classes):
    values = {"system": "score", "dataset": str(classes), "image_size": 4, "labels_from": "folders", "num_classes": 3}
    with pytest.raises(UserError) as refused:
        open_configured(config.resolve(values, None))
    assert str(refused.value) == (
        "num_classes is 3, but there are 4 class folders with images: Cats, birds, dogs, emus; "
        "set num_classes to 4, or labels_from to files"
    )
    source = open_configured(config.resolve({**values, "num_classes": 4}, None))
    assert source.labels.tolist() == [0, 1, 1, 2, 3]


def test_images_beside_the_class_folders_are_refused(classes):
    save(classes / "stray.png")
    with pytest.raises(UserError, match=r"labels_from is folders, but 1 of the 6 images .* the first is stray\.png"):
        opened(classes, labels_from="folders")


def test_only_a_folder_of_images_has_class_folders():
    with pytest.raises(UserError, match="labels_from is folders, but digits is no folder of images"):
        open_images("digits", image_size=(8, 8), channels=1, labels_from="folders")
    with pytest.raises(UserError, match="labels_from is 'names', expected one of: files, folders"):
        open_images("digits", image_size=(8, 8), channels=1, labels_from="names")


def test_a_system_without_classes_does_not_take_them():
    with pytest.raises(UserError, match="labels_from is 'folders', but it belongs to the systems latent, score"):
        config.resolve({"labels_from": "folders"}, None)


def test_a_run_keeps_and_shows_the_names_in_order(classes, capsys):
    from ms_ddpm.cli import train

    class Trainer:
        train_set, folder = opened(classes, labels_from="folders").subset([0]), classes.parent

    train.show_classes(Trainer)
    assert capsys.readouterr().out == "4 classes: 0 Cats, 1 birds, 2 dogs, 3 emus (all in classes.txt)\n"
    assert (classes.parent / "classes.txt").read_text() == "Cats\nbirds\ndogs\nemus\n"
