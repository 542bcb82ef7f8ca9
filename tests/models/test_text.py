"""Tokenizers and text encoders."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from transformers import BertConfig, BertModel, BertTokenizer, RobertaConfig, RobertaModel

from tests.composition import compose_train
from uniphd.config.compose import build
from uniphd.errors import ConfigError
from uniphd.models.text_encoder import TextEncoder
from uniphd.models.tokenizer import HashTokenizer, HuggingFaceTokenizer

SMALL = {
    "vocab_size": 50,
    "hidden_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 16,
    "max_position_embeddings": 40,
}


def test_words_have_fixed_ids_whatever_stands_beside_them() -> None:
    ids, mask = HashTokenizer()(["The man, left!", "a MAN"])
    assert ids.shape == mask.shape == (2, 7)
    assert ids[0, 2] == ids[1, 2]
    assert ids[:, 0].tolist() == [0, 0]
    assert mask.sum(1).tolist() == [7, 4]
    assert ids[1].tolist()[3:] == [2, 1, 1, 1]
    assert len(set(ids[0, 1:6].tolist())) == 5


def test_long_texts_are_cut_and_end() -> None:
    ids, _ = HashTokenizer(max_length=8)(["word " * 10_000])
    assert ids.shape == (1, 8)
    assert ids[0, -1] == 2


def test_a_local_tokenizer_is_loaded_on_first_use(tmp_path: Path) -> None:
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "the", "man", "left"]
    (tmp_path / "vocab.txt").write_text("\n".join(words))
    BertTokenizer(str(tmp_path / "vocab.txt")).save_pretrained(tmp_path)
    tokenizer = HuggingFaceTokenizer(str(tmp_path), max_length=5)
    ids, mask = tokenizer(["the man", "left the the the man"])
    assert ids.tolist() == [[2, 5, 6, 3, 0], [2, 7, 5, 5, 3]]
    assert mask.tolist() == [[1, 1, 1, 1, 0], [1, 1, 1, 1, 1]]


def test_a_tokenizer_that_is_not_there(tmp_path: Path) -> None:
    tokenizer = HuggingFaceTokenizer(str(tmp_path / "nowhere"))
    with pytest.raises(ConfigError, match=r"cannot be loaded.*uniphd-convert again, with --token"):
        tokenizer(["the man"])


def test_padding_does_not_change_a_sentence() -> None:
    torch.manual_seed(0)
    encoder = TextEncoder(config={"model_type": "roberta", **SMALL}).eval()
    ids = torch.tensor([[0, 7, 8, 2]])
    padded = torch.tensor([[0, 7, 8, 2, 1, 1]])
    with torch.no_grad():
        hidden, sentence = encoder(ids, torch.ones_like(ids))
        hidden2, sentence2 = encoder(padded, (padded != 1).long())
    torch.testing.assert_close(hidden2[:, :4], hidden, atol=1e-5, rtol=0)
    torch.testing.assert_close(sentence2, sentence, atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    ("model", "config"), [(RobertaModel, RobertaConfig), (BertModel, BertConfig)]
)
def test_any_pretrained_folder_is_loaded(tmp_path: Path, model: type, config: type) -> None:
    torch.manual_seed(0)
    original = model(config(**SMALL))
    original.save_pretrained(tmp_path)
    encoder = TextEncoder(name=str(tmp_path))
    rebuilt = TextEncoder(**encoder.portable_arguments())
    for name, value in original.state_dict().items():
        torch.testing.assert_close(encoder.body.state_dict()[name], value)
    assert rebuilt.body.state_dict().keys() == encoder.body.state_dict().keys()
    assert encoder.hidden_size == 16


def test_words_of_the_local_encoder_hear_two_words_on_each_side(tmp_path: Path) -> None:
    torch.manual_seed(0)
    config = compose_train(tmp_path, "text_encoder=tiny_local", "experiment=tiny_refhuman")
    encoder = build(config.text_encoder).eval()
    rebuilt = TextEncoder(**encoder.portable_arguments(), sentence="mean").eval()
    rebuilt.load_state_dict(encoder.state_dict())
    tokenize = build(config.tokenizer)
    ids, mask = tokenize(["the one in a green shirt", "the one in a green coat", "a shirt"])
    with torch.no_grad():
        hidden, _ = encoder(ids, mask)
        for row, words in enumerate(mask.sum(1).tolist()):  # alone there is no padding
            alone, sentence = rebuilt(ids[row : row + 1, :words], mask[row : row + 1, :words])
            torch.testing.assert_close(alone[0], hidden[row, :words], atol=1e-5, rtol=0)
            torch.testing.assert_close(sentence[0], hidden[row, :words].mean(0), atol=1e-5, rtol=0)
    changed = (hidden[0] - hidden[1]).abs().amax(-1) > 1e-4
    # start, the, one, in, a, green, shirt or coat, end
    assert changed.tolist() == [False, False, False, False, True, True, True, True]


def test_a_frozen_encoder_gets_no_gradient() -> None:
    encoder = TextEncoder(config={"model_type": "roberta", **SMALL}, trainable=False)
    assert not any(parameter.requires_grad for parameter in encoder.parameters())


def test_unusable_choices_are_explained(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="either `name`"):
        TextEncoder()
    with pytest.raises(ConfigError, match="lacks `model_type`"):
        TextEncoder(config=SMALL)
    with pytest.raises(ConfigError, match="cannot be loaded"):
        TextEncoder(name=str(tmp_path / "nowhere"))
