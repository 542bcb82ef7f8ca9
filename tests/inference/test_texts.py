"""Texts that are cut, and tokenizers of another model."""

from __future__ import annotations

from pathlib import Path

import pytest
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from uniphd.errors import ConfigError
from uniphd.inference.predictor import Predictor
from uniphd.inference.texts import CarefulTokenizer, words_read
from uniphd.models import text_encoder
from uniphd.models.tokenizer import HashTokenizer, HuggingFaceTokenizer
from uniphd.prompts import read_part
from uniphd.synthetic.annotations import AnnotatedScene


@pytest.fixture
def words(tmp_path: Path) -> HuggingFaceTokenizer:
    """Reads five words."""
    inner = Tokenizer(models.WordLevel({"<unk>": 0, "<pad>": 1, "man": 2}, unk_token="<unk>"))
    inner.pre_tokenizer = pre_tokenizers.Whitespace()
    PreTrainedTokenizerFast(
        tokenizer_object=inner, unk_token="<unk>", pad_token="<pad>", model_max_length=5
    ).save_pretrained(tmp_path)
    return HuggingFaceTokenizer(str(tmp_path), 9)


@pytest.mark.parametrize("count", [1, 4, 5, 6, 40])
def test_what_is_read_has_the_same_ids(words: HuggingFaceTokenizer, count: int) -> None:
    text = " ".join(["man", "woman"] * 20)[: 4 * count]
    for tokenizer in (words, HashTokenizer(max_length=7)):
        part = read_part(tokenizer, text)
        assert text.startswith(part)
        assert tokenizer([part])[0].tolist() == tokenizer([text])[0].tolist()
        assert words_read(text, part) == min(len(text.split()), 5)


def test_a_tokenizer_that_cannot_say_reads_all() -> None:
    assert read_part(lambda texts: HashTokenizer()(texts), "a man") == "a man"


def test_words_that_are_read_to_their_end() -> None:
    assert words_read("the woman on", "the woman") == 2
    assert words_read("the woman on", "the wom") == 1
    assert words_read("the woman on", "the ") == 1
    assert words_read("the woman on", "") == 0


def test_a_long_text_is_said_once(caplog: pytest.LogCaptureFixture) -> None:
    tokenize = CarefulTokenizer(HashTokenizer(max_length=5), lambda: None)
    for _ in range(3):
        tokenize(["a b c d e", "a b"])
    (record,) = caplog.records
    assert "Of a text of 5 words, 3 are read" in record.getMessage()


def test_a_predictor_says_it(
    predictor: Predictor, scene: AnnotatedScene, caplog: pytest.LogCaptureFixture
) -> None:
    encoded = predictor.encode(scene.image)
    short, long = "the man " * 31, "the man " * 50
    assert encoded.predict(text=short).score == encoded.predict(text=long).score
    assert "Of a text of 100 words, 62 are read" in caplog.text


def test_a_tokenizer_of_another_model_is_refused_at_the_first_text(
    scene: AnnotatedScene, monkeypatch: pytest.MonkeyPatch
) -> None:
    packaged = Predictor("synthetic_cpu", device="cpu")
    monkeypatch.setattr(text_encoder, "_differ", lambda *_: True)  # as if padding counted
    packaged.predict(scene.image, point=(40, 50))
    for _ in range(2):
        with pytest.raises(ConfigError, match="beside a longer one"):
            packaged.predict(scene.image, text="a man")
