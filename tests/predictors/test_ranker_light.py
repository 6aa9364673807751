"""The light ranker through the command line: contract, determinism, bad input."""

import json
import math

import numpy as np
import polars as pl
import pytest
from click.testing import CliRunner

from simsched.cli import cli
from simsched.errors import InputError
from simsched.predictors.evaluation import tau_b
from simsched.predictors.model import load_model
from simsched.predictors.training import Options, _split
from simsched.workload.formats import load_trace
from tests.predictors.ranker_cases import rows, write_jsonl


def call(*args):
    result = CliRunner().invoke(cli, [str(arg) for arg in args])
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("light")
    write_jsonl(folder / "train.jsonl", rows(200, seed=0))
    write_jsonl(folder / "test.jsonl", rows(150, seed=1))
    call("train", "--data", folder / "train.jsonl", "--output", folder / "model")
    return folder


def test_it_learns_and_says_so(trained):
    out = trained / "out.json"
    result = call("evaluate", trained / "model", "--data", trained / "test.jsonl", "--json", out,
                  "--sample-column", "second")  # fmt: skip
    found = json.loads(out.read_text())
    assert found["kendall_tau"] > 0.4
    assert found["kendall_tau_ci"][0] < found["kendall_tau"] < found["kendall_tau_ci"][1]
    assert found["n"] == 150
    assert found["ms_per_prompt"] > 0
    assert found["baselines"]["constant"]["kendall_tau"] == 0
    assert found["ceiling"]["second"] == pytest.approx(
        tau_b(*(np.array([e[c] for e in rows(150, seed=1)], float) for c in ("second", "output_length")))
    )
    assert f"{found['kendall_tau']:.3f}" in result.stdout


def test_several_data_sets_give_a_row_each(trained):
    out = trained / "both.json"
    said = call("evaluate", trained / "model", "--data", trained / "test.jsonl", "--data",
                trained / "train.jsonl", "--json", out)  # fmt: skip
    assert said.stderr.count("was trained on these prompts, so this flatters it") == 1
    assert f"{trained / 'train.jsonl'}: " in said.stderr
    found = json.loads(out.read_text())
    assert [entry["n"] for entry in found["datasets"].values()] == [150, 200]
    assert found["n"] == 150


def test_the_card_tells_what_was_done(trained):
    card = load_model(trained / "model").card
    assert card["backbone"] == "light"
    assert card["loss"] == "percentile"
    assert card["prompts"] == 200
    assert len(card["data_hash"]) == 64
    assert card["data"]["rows"] == 200
    assert card["validation"]["n"] == 20
    assert card["train_seconds"] > 0
    assert set(card["seconds_per_prompt"]) == {"1", "32"}


@pytest.mark.parametrize(
    ("n", "share", "held_out"), [(200, None, 20), (10_000, None, 500), (10_000, 0.2, 2000), (20, None, 5)]
)
def test_a_tenth_is_held_out_but_not_too_much(n, share, held_out):
    validation, train = _split(n, Options(validation_share=share))
    assert len(validation) == held_out
    assert sorted([*validation, *train]) == list(range(n))


def test_same_seed_same_weights(trained, tmp_path):
    call("train", "--data", trained / "train.jsonl", "--output", tmp_path / "again")
    first, again = (load_model(folder) for folder in (trained / "model", tmp_path / "again"))
    assert first.backbone.weights.tobytes() == again.backbone.weights.tobytes()
    assert first.readout.to_json() == again.readout.to_json()
    prompts = [entry["prompt"] for entry in rows(30, seed=2)]
    whole = first.predict(prompts)["score"]
    assert whole == pytest.approx([first.predict([prompt])["score"][0] for prompt in prompts], abs=1e-12)


@pytest.mark.parametrize("loss", ["listmle", "pairwise", "regression", "classification", "quantile", "log-t"])
def test_every_loss_learns(trained, tmp_path, loss):
    call("train", "--data", trained / "train.jsonl", "--output", tmp_path / "m", "--loss", loss,
         "--buckets", "percentile(count=4)")  # fmt: skip
    test = rows(150, seed=1)
    columns = load_model(tmp_path / "m").predict([entry["prompt"] for entry in test])
    lengths = np.array([entry["output_length"] for entry in test], dtype=float)
    assert tau_b(columns["score"], lengths) > 0.4
    assert tau_b(columns["predicted_class"], lengths) > 0.3
    assert set(columns["predicted_class"]) <= {0, 1, 2, 3}
    assert columns["predicted_length"].mean() == pytest.approx(lengths.mean(), rel=0.6)


@pytest.mark.parametrize("loss", ["quantile", "log-t"])
def test_a_model_of_quantiles_gives_a_distribution(trained, tmp_path, loss):
    """Of prompts it has not seen: as many lengths below each quantile as it says, give or take."""
    call("train", "--data", trained / "train.jsonl", "--output", tmp_path / "m", "--loss", loss)
    test = rows(300, seed=1)
    quantiles = load_model(tmp_path / "m").predict([entry["prompt"] for entry in test])["length_quantiles"]
    lengths = np.array([entry["output_length"] for entry in test], dtype=float)
    assert quantiles.shape == (300, 20)
    assert (np.diff(quantiles, axis=1) >= 0).all()
    below = (lengths[:, None] <= quantiles).mean(axis=0)
    assert below == pytest.approx((np.arange(20) + 0.5) / 20, abs=0.12)
    # narrower than the distribution of all: the prompt says whether the answer is long
    low, high = np.quantile(lengths, (0.225, 0.775))
    assert np.median(quantiles[:, 15] / quantiles[:, 4]) < high / low
    test = write_jsonl(tmp_path / "new.jsonl", test)
    call("predict", tmp_path / "m", "--data", test, "--output", tmp_path / "trace.jsonl")
    read = load_trace(tmp_path / "trace.jsonl")[0]
    assert read.length_quantiles == pytest.approx(quantiles)
    said = call("evaluate", tmp_path / "m", "--data", test)
    assert "no longer than the predicted quantile, 0.1:" in said.stdout


def test_predict_keeps_every_column_and_fills_what_a_trace_needs(trained, tmp_path):
    entries = [{**entry, "tenant": "a"} if i % 2 else entry for i, entry in enumerate(rows(20, seed=3))]
    data = write_jsonl(tmp_path / "in.jsonl", entries)
    result = call("predict", trained / "model", "--data", data, "--output", tmp_path / "trace.jsonl")
    written = [json.loads(line) for line in (tmp_path / "trace.jsonl").read_text().splitlines()]
    for entry, row in zip(entries, written, strict=True):
        assert entry.items() <= row.items()
        assert row["timestamp"] == 0.0
        assert row["input_length"] == max(1, round(len(row["prompt"]) / 4))
        assert isinstance(row["predicted_class"], int)
        assert row["predicted_length"] > 0
    assert ("tenant" in written[1], "tenant" in written[0]) == (True, False)
    assert "timestamp is missing in 20 rows" in result.stderr
    assert "1 token per 4 characters" in result.stderr
    lengths = np.array([row["output_length"] for row in written], dtype=float)
    assert tau_b(np.array([row["score"] for row in written]), lengths) > 0.3


def test_predict_leaves_given_times_and_lengths_alone(trained, tmp_path):
    given = pl.DataFrame(rows(5)).with_columns(
        timestamp=pl.Series([0.5] * 5), input_length=pl.Series([7] * 5)
    )
    given.write_parquet(tmp_path / "in.parquet")
    result = call("predict", trained / "model", "--data", tmp_path / "in.parquet",
                  "--output", tmp_path / "out.parquet")  # fmt: skip
    written = pl.read_parquet(tmp_path / "out.parquet")
    assert written.select(given.columns).equals(given)
    assert "warning" not in result.stderr


def refusal(*args):
    with pytest.raises(InputError) as caught:
        call(*args)
    message = str(caught.value)
    assert "\n" not in message
    return message


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "no rows"),
        (b"\x00\xff\x80binary", "line 1 is not a JSON object"),
        (b"PAR1 but no parquet", "not a readable Parquet file"),
        (b'{"text": "a", "output_length": 1}\n', "--prompt-column prompt"),
        (b'{"prompt": "a"}\n', "--length-column output_length"),
        (b'{"prompt": "a", "output_length": 3}\n{"prompt": "b"}\n', "row 2: output_length missing"),
        (b'{"prompt": "a", "output_length": 0}\n', "row 1: output_length is not at least 1"),
        (b'{"prompt": "a", "output_length": NaN}\n', "row 1: output_length is not at least 1"),
        (b'{"prompt": "a", "output_length": 1' + 400 * b"0" + b"}\n", "row 1: output_length is over"),
        (b'{"prompt": "a", "output_length": "3"}\n', "row 1: output_length is not a number"),
        (b'{"prompt": "  ", "output_length": 3}\n', "row 1: prompt empty"),
        (b'{"prompt": 5, "output_length": 3}\n', "row 1: prompt is not text but int"),
        (b'{"prompt": "a", "output_length": 3}\n', "1 usable prompts; expected at least 20"),
    ],
)
def test_bad_data_is_one_line(tmp_path, content, says):
    (tmp_path / "bad").write_bytes(content)
    assert says in refusal("train", "--data", tmp_path / "bad", "--output", tmp_path / "m")
    assert not (tmp_path / "m").exists()


def test_one_length_for_all_is_refused(tmp_path):
    data = write_jsonl(tmp_path / "d", [{**entry, "output_length": 9} for entry in rows(30)])
    assert "no order to learn" in refusal("train", "--data", data, "--output", tmp_path / "m")
    assert "into one class" in refusal(
        "train", "--data", write_jsonl(tmp_path / "e", rows(30)), "--output", tmp_path / "m",
        "--loss", "classification", "--buckets", "fixed(width=8200)",
    )  # fmt: skip


def test_rows_are_dropped_and_counted(tmp_path):
    entries = [*rows(40), {"prompt": "x"}, {"prompt": "y"}, {"output_length": 4}]
    data = write_jsonl(tmp_path / "d", entries)
    result = call("train", "--data", data, "--output", tmp_path / "m", "--skip-invalid")
    assert "dropped 2 rows: output_length missing; 1 row: prompt missing" in result.stderr
    assert load_model(tmp_path / "m").card["prompts"] == 40


def test_a_repeated_prompt_is_a_further_sample(tmp_path):
    entries = rows(40)
    data = write_jsonl(tmp_path / "d", [*entries, {**entries[0], "output_length": 1000}])
    result = call("train", "--data", data, "--output", tmp_path / "m")
    assert "1 row" in result.stderr
    assert "repeat" in result.stderr
    assert load_model(tmp_path / "m").card["prompts"] == 40


def test_samples_are_averaged_geometrically(tmp_path):
    from simsched.predictors.data import examples, read_prompts

    data = read_prompts(write_jsonl(tmp_path / "d", rows(3)))
    merged = examples(data, "prompt", ("output_length", "second")).lengths
    assert merged == pytest.approx([math.sqrt(e["output_length"] * e["second"]) for e in rows(3)])


def test_where_selects_rows(tmp_path):
    entries = [{**entry, "split": "a" if i < 30 else "b"} for i, entry in enumerate(rows(60))]
    data = write_jsonl(tmp_path / "d", entries)
    call("train", "--data", data, "--output", tmp_path / "m", "--where", "split=a")
    assert load_model(tmp_path / "m").card["prompts"] == 30
    for where in ("split=c", "nothing=a", "split"):
        refusal("train", "--data", data, "--output", tmp_path / "n", "--where", where)


def test_huge_binary_and_odd_prompts_get_a_score(trained):
    odd = ["word " * 400_000, "\x00\x01\x02" * 50, "\ud800 lone surrogate", "漢字" * 300, "?"]
    columns = load_model(trained / "model").predict(odd)
    assert np.isfinite(columns["score"]).all()


def test_nothing_is_overwritten_unasked(trained, tmp_path):
    args = ("train", "--data", trained / "train.jsonl", "--output", trained / "model")
    assert "--overwrite" in refusal(*args)
    (tmp_path / "t").write_text("mine")
    predict = ("predict", trained / "model", "--data", trained / "test.jsonl", "--output", tmp_path / "t")
    assert "--overwrite" in refusal(*predict)
    assert (tmp_path / "t").read_text() == "mine"
    call(*predict[:-1], tmp_path / "new" / "folder" / "t")
    call(*predict, "--overwrite")
    assert (tmp_path / "new" / "folder" / "t").read_text() == (tmp_path / "t").read_text()
    assert len((tmp_path / "t").read_text().splitlines()) == 150


def test_overwrite_replaces_a_ranker_and_nothing_else(trained, tmp_path):
    data = trained / "train.jsonl"
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").write_text("years of work")
    for output in (tmp_path / "mine", data, tmp_path / "."):
        message = refusal("train", "--data", data, "--output", output, "--overwrite")
        assert "is no ranker" in message
    assert (tmp_path / "mine" / "thesis.tex").read_text() == "years of work"
    (tmp_path / "empty").mkdir()
    call("train", "--data", data, "--output", tmp_path / "empty", "--overwrite")
    call("train", "--data", data, "--output", tmp_path / "empty", "--overwrite")
    assert load_model(tmp_path / "empty").card["prompts"] == 200


def test_what_cannot_be_written_is_said_before_the_work(trained, tmp_path, monkeypatch):
    def never(*args):
        raise AssertionError("it worked for nothing")

    monkeypatch.setattr("simsched.predictors.data.read_prompts", never)
    monkeypatch.setattr("simsched.predictors.model.load_model", never)
    data, model, below_a_file = trained / "test.jsonl", trained / "model", trained / "test.jsonl" / "x"
    for args in (
        ("train", "--data", data, "--output", below_a_file),
        ("evaluate", model, "--data", data, "--json", below_a_file),
        ("predict", model, "--data", data, "--output", below_a_file),
    ):
        assert "cannot write there" in refusal(*args)


@pytest.mark.parametrize(
    "option", ["--epochs", "--batch-size", "--learning-rate", "--max-tokens", "--patience"]
)
def test_light_refuses_what_it_does_not_have(trained, tmp_path, option):
    message = refusal("train", "--data", trained / "train.jsonl", "--output", tmp_path / "m", option, "3")
    assert f"{option}: the light backbone has no such setting" in message


def test_one_prompt_has_no_order(trained, tmp_path):
    data = write_jsonl(tmp_path / "d", rows(1))
    assert "expected at least 2" in refusal("evaluate", trained / "model", "--data", data)


def test_predict_reads_the_columns_that_are_named(trained, tmp_path):
    data = write_jsonl(tmp_path / "d", rows(4))
    args = ("predict", trained / "model", "--data", data, "--output", tmp_path / "t")
    assert "--length-column nope" in refusal(*args, "--length-column", "nope")
    assert not (tmp_path / "t").exists()
    result = call(*args, "--length-column", "second")
    assert "output_length is there, and replaced by second" in result.stderr
    written = [json.loads(line) for line in (tmp_path / "t").read_text().splitlines()]
    assert [row["output_length"] for row in written] == [row["second"] for row in rows(4)]


def test_broken_models_are_refused(trained, tmp_path):
    assert "no ranker" in refusal("evaluate", tmp_path, "--data", trained / "test.jsonl")
    broken = tmp_path / "broken"
    call("train", "--data", trained / "train.jsonl", "--output", broken)
    # an array of objects would need pickle
    np.savez(broken / "weights.npz", keys=np.array([{}], dtype=object))
    assert "not a light ranker's weights" in refusal("evaluate", broken, "--data", trained / "test.jsonl")
    (broken / "weights.npz").write_bytes(b"PK\x03\x04")
    assert "not a light ranker's weights" in refusal("evaluate", broken, "--data", trained / "test.jsonl")
    (broken / "card.json").write_text('{"format": 99}')
    assert "format 99" in refusal("evaluate", broken, "--data", trained / "test.jsonl")
    (broken / "card.json").write_text("[]")
    assert "not a ranker's card" in refusal("evaluate", broken, "--data", trained / "test.jsonl")


@pytest.mark.parametrize("text", ["fixed(width=0)", "percentile(count=1)", "thirds", "fixed(count=3)", "("])
def test_buckets_are_parsed_not_guessed(tmp_path, text):
    data = write_jsonl(tmp_path / "d", rows(30))
    assert "--buckets" in refusal("train", "--data", data, "--output", tmp_path / "m", "--buckets", text)


@pytest.mark.slow
def test_light_reaches_its_target_on_real_prompts(shared_data, tmp_path):
    """Trained on one sample a prompt, tested once on the other split: at least 0.53, the aim is 0.54."""
    data = shared_data / "prompts" / "vicuna7b_alpaca20k.parquet"
    if not data.exists():
        pytest.skip(f"no {data}")
    common = ("--data", data, "--length-column", "L_t0.7")
    call("train", *common, "--where", "source_split=train", "--output", tmp_path / "m")
    call("evaluate", tmp_path / "m", *common, "--where", "source_split=val", "--json", tmp_path / "o",
         "--resamples", 20)  # fmt: skip
    found = json.loads((tmp_path / "o").read_text())
    assert found["n"] == 10_000
    assert found["kendall_tau"] >= 0.54
    assert found["baselines"]["prompt_length"]["kendall_tau"] < 0
