"""sample.py with a directory as diffusers writes it: what is asked for arrives, and what cannot be is one line."""

import json
import re
import shutil
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("diffusers")
pytest.importorskip("tokenizers")

from ms_ddpm import DDIMPipeline, StableDiffusionPipeline, UserError
from ms_ddpm.cli import sample
from ms_ddpm.pipelines.unconditional import KINDS
from ms_ddpm.schedulers import DDIMScheduler

from .directories import HEIGHT, WIDTH, unconditional
from .test_calls import damaged, lora_of

TWO_TEXTS = ["a red three", "a blue seven on grey"]


def drawn(folder, out, *options):
    """The pictures (B, H, W, 3) that the command draws, uint8."""
    assert sample.main(["--checkpoint", str(folder), "--output_dir", str(out), "--mode", "1", *map(str, options)]) == 0
    with np.load(out / "samples.npz") as file:
        return file["arr_0"]


def as_bytes(pictures):
    return np.rint(255 * pictures).astype(np.uint8)


def test_everything_that_is_asked_for_arrives(pair, tmp_path, capsys):
    theirs, _, folder = pair
    files = [lora_of(theirs, tmp_path / name, seed, rank, 3) for name, seed, rank in (("one", 0, 2), ("two", 1, 3))]
    found = drawn(
        folder, tmp_path / "out", "--prompt", *TWO_TEXTS, "--negative_prompt", "two green digits", "bold", "--num", 2,
        "--batch_size", 3, "--seed", 5, "--scheduler", "DDIM", "--num_inference_steps", 2, "--eta", 0.5,
        "--guidance_scale", 3, "--clip_skip", 1, "--height", HEIGHT, "--width", WIDTH, "--lora", f"{files[0]}:0.7",
        files[1],
    )  # fmt: skip
    pipe = StableDiffusionPipeline.from_pretrained(folder)
    pipe.scheduler = DDIMScheduler.from_config(pipe.scheduler.config)
    for name, file in zip("ab", files, strict=True):
        pipe.load_lora_weights(file, adapter_name=name)
    pipe.set_adapters(["a", "b"], [0.7, 1.0])
    same = pipe(
        [TWO_TEXTS[0]] * 2 + [TWO_TEXTS[1]] * 2, negative_prompt=["two green digits"] * 2 + ["bold"] * 2, seed=5,
        num_inference_steps=2, eta=0.5, guidance_scale=3.0, clip_skip=1, height=HEIGHT, width=WIDTH, output_type="np",
    ).images  # fmt: skip
    assert np.abs(found.astype(int) - as_bytes(same)).max() <= 1  # batches of other sizes round otherwise
    assert len({picture.tobytes() for picture in found}) == 4
    for number, picture in enumerate(found):
        assert np.array_equal(np.asarray(Image.open(tmp_path / f"out/image-{number:04d}.png")), picture)
    said = json.loads((tmp_path / "out/samples.json").read_text())
    assert said["scheduler"] == "DDIM"
    assert said["images"][2] == {"file": "image-0002.png", "prompt": TWO_TEXTS[1], "negative_prompt": "bold"}
    grid = Image.open(tmp_path / "out/grid.png")
    assert (grid.width < grid.height) == (WIDTH < HEIGHT)  # two by two
    assert "4 images of" in capsys.readouterr().out


def test_an_image_and_a_mask_come_from_files(pair, tmp_path):
    _, _, folder = pair
    rng = np.random.default_rng(0)
    picture = rng.integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8)
    mask = np.where(rng.random((HEIGHT, WIDTH)) > 0.4, 255, 0).astype(np.uint8)
    Image.fromarray(picture).save(tmp_path / "image.png")
    Image.fromarray(mask).save(tmp_path / "mask.png")
    options = ("--prompt", TWO_TEXTS[0], "--num", 1, "--sampling_steps", 3, "--init_image", tmp_path / "image.png")
    pipe = StableDiffusionPipeline.from_pretrained(folder)
    asked = {"num_inference_steps": 3, "image": picture, "seed": 0, "output_type": "np"}
    changed = drawn(folder, tmp_path / "changed", *options, "--strength", 0.7)
    assert np.array_equal(changed, as_bytes(pipe(TWO_TEXTS[0], strength=0.7, **asked).images))
    filled = drawn(folder, tmp_path / "filled", *options, "--mask", tmp_path / "mask.png")
    assert np.array_equal(filled, as_bytes(pipe(TWO_TEXTS[0], mask_image=mask, **asked).images))
    assert not np.array_equal(changed, filled)
    resized = drawn(folder, tmp_path / "resized", *options, "--strength", 0.7, "--width", 2 * WIDTH)
    assert resized.shape[1:3] == (HEIGHT, 2 * WIDTH)


def test_a_network_without_prompts_is_drawn_from(mindspore, tmp_path):
    unconditional(tmp_path / "ddpm")
    found = drawn(
        tmp_path / "ddpm", tmp_path / "out", "--num", 3, "--batch_size", 2, "--num_inference_steps", 2,
        "--scheduler", "DDIM", "--eta", 0.4, "--seed", 2,
    )  # fmt: skip
    same = DDIMPipeline.from_pretrained(tmp_path / "ddpm")(
        batch_size=3, num_inference_steps=2, eta=0.4, seed=2, output_type="np"
    )
    assert np.abs(found.astype(int) - as_bytes(same.images)).max() <= 1


def test_help_names_every_scheduler(mindspore):
    assert sorted(sample.SCHEDULERS) == sorted(name.removesuffix("Scheduler") for name in KINDS)


def test_the_machine_is_started_before_mindspore_is_imported(tmp_path):
    """What `runtime.setup` prepares for a device counts only before that."""
    (tmp_path / "model_index.json").write_text("{}")
    code = f"""
import sys
from ms_ddpm.cli import sample
sample.start_machine = lambda args: sys.exit("mindspore" in sys.modules)
sample.main(["--checkpoint", {str(tmp_path)!r}, "--prompt", "a"])
"""
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ((), "draws from a text; give --prompt"),
        (("--prompt", "a", "--sampler", "pc"), "--sampler is for models that train.py made"),
        (("--prompt", "a", "--gif"), "--gif is for models"),
        (("--prompt", "a", "--strength", "0.5"), "--strength was given without --init_image"),
        (("--prompt", "a", "b", "c", "--negative_prompt", "d", "e"), "2 negative prompts for 3 prompts"),
        (("--prompt", "a", "--init_image", "nowhere.png"), "--init_image: no file nowhere.png"),
        (("--prompt", "a", "--lora", "nowhere.safetensors:0.5"), "nowhere.safetensors"),
        (("--prompt", "a", "--lora", "x:y"), "expected FILE or FILE:SCALE"),
        (("--prompt", "a", "--lora", "x:nan"), "--lora is 'x:nan', expected FILE or FILE:SCALE, SCALE a number"),
        (("--prompt", "a", "--guidance_scale", "nan"), "--guidance_scale is nan, expected a finite number"),
        (("--prompt", "a", "--eta", "5"), "--eta is 5.0, expected a number from 0 to 1"),
        (("--prompt", "a", "--init_image", __file__, "--strength", "2"), "--strength is 2.0, expected a numb"),
        (("--prompt", "a", "--width", "13"), "width is 13, expected a multiple of"),
        (("--prompt", "a", "--height", "0"), "--height is 0, expected at least 8"),
        (("--prompt", "a", "--init_image", __file__), "is no image that can be read"),
    ],
)  # fmt: skip
def test_what_cannot_be_drawn_is_one_line(pair, tmp_path, options, words):
    _, _, folder = pair
    with pytest.raises(UserError) as raised:
        drawn(folder, tmp_path / "out", *options)
    assert words in str(raised.value)
    assert "\n" not in str(raised.value)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("option", ["init_image", "mask", "lora"])
def test_a_file_that_is_not_there_is_said_before_the_networks_are_read(pair, tmp_path, monkeypatch, option):
    _, _, folder = pair
    Image.new("RGB", (WIDTH, HEIGHT)).save(tmp_path / "image.png")
    files = {"init_image": tmp_path / "image.png"} | {option: tmp_path / "nowhere"}
    options = [text for name, file in files.items() for text in (f"--{name}", file)]
    monkeypatch.setattr(StableDiffusionPipeline, "from_pretrained", lambda *args, **kwargs: pytest.fail("read"))
    with pytest.raises(UserError, match="nowhere"):
        drawn(folder, tmp_path / "out", "--prompt", "a", *options)


def test_other_models_and_other_pipelines_say_so(pair, tmp_path):
    (tmp_path / "model_index.json").write_text('{"_class_name": "StableDiffusionXLPipeline"}')
    with pytest.raises(UserError, match="holds a 'StableDiffusionXLPipeline', expected one of: StableDiffusionPipe"):
        drawn(tmp_path, tmp_path / "out", "--prompt", "a")
    (tmp_path / "run").mkdir()
    with pytest.raises(UserError, match=r"--prompt is for a directory as diffusers writes it, and .* no model_index"):
        drawn(tmp_path / "run", tmp_path / "out", "--prompt", "a")


@pytest.mark.parametrize("options", [(), ("--prompt", "x")], ids=["alone", "prompt"])
def test_a_hub_s_name_says_how_its_files_are_got(tmp_path, monkeypatch, options):
    monkeypatch.chdir(tmp_path)
    name = "runwayml/stable-diffusion-v1-5"
    with pytest.raises(UserError, match=f"nothing is downloaded here; .*hf download {name} --local-dir DIR"):
        drawn(name, tmp_path / "out", *options)
    with pytest.raises(
        UserError, match="'nowhere' is no directory on this disk" if options else "no checkpoint in now"
    ):
        drawn("nowhere", tmp_path / "out", *options)
    (tmp_path / "runs").mkdir()
    with pytest.raises(UserError, match="'runs/digit' is no directory" if options else "no checkpoint in runs/digit"):
        drawn("runs/digit", tmp_path / "out", *options)


def test_a_damaged_directory_is_one_line_and_exit_code_2(pair, tmp_path, capfd, monkeypatch):
    from ms_ddpm import cli

    monkeypatch.setattr(cli.logging, "basicConfig", lambda **options: None)

    def refused(folder, words):
        with pytest.raises(SystemExit) as ended:
            cli.run(lambda argv: drawn(folder, tmp_path / "out", *argv), ["--prompt", "a", "--num", "1"])
        assert ended.value.code == 2
        said = capfd.readouterr().err.splitlines()
        assert len(said) == 1
        assert re.search(words, said[0])
        assert not (tmp_path / "out").exists()

    damaged(shutil.copytree(pair[2], tmp_path / "sd"), refused)
