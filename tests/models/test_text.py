"""Tokenizers and text encoders."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import tokenizers
import torch
from safetensors.torch import load_file, save_file
from transformers import (
    AutoModel,
    BertConfig,
    BertModel,
    BertTokenizer,
    CLIPConfig,
    GPT2Config,
    PreTrainedTokenizerFast,
    RobertaConfig,
    RobertaModel,
    T5Config,
)

from tests.composition import compose_train
from uniphd.config.compose import build
from uniphd.errors import ConfigError, PromptError
from uniphd.models.text_encoder import TextEncoder, check_texts
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


LAYERS = {"encoder_layers": 1, "decoder_layers": 1, "d_model": 16}
FAMILIES = {
    "distilbert": {"dim": 16, "n_layers": 1, "n_heads": 2, "hidden_dim": 16},
    "albert": {"embedding_size": 8},
    "mpnet": {},
    "deberta-v2": {},
    "gpt2": {"n_embd": 16, "n_layer": 1, "n_head": 2, "n_positions": 40},
    "t5": {"d_model": 16, "d_kv": 8, "d_ff": 16, "num_layers": 1, "num_heads": 2},
    "bart": {**LAYERS, "encoder_attention_heads": 2, "decoder_attention_heads": 2},
    "clip": {"text_config": {**SMALL, "eos_token_id": 2, "pad_token_id": 1}},
    "siglip": {"text_config": SMALL},
}


@pytest.mark.parametrize("model_type", FAMILIES)
def test_families_of_language_models_read(model_type: str) -> None:
    """Of those that write, too, and of those that see, the part that reads."""
    torch.manual_seed(0)
    own = FAMILIES[model_type]
    described = own if "text_config" in own else {**SMALL, **own}
    encoder = TextEncoder(config={"model_type": model_type, **described}, sentence="mean")
    check_texts(encoder, HashTokenizer(SMALL["vocab_size"], 32))
    rebuilt = TextEncoder(**encoder.portable_arguments(), sentence="mean")
    assert rebuilt.state_dict().keys() == encoder.state_dict().keys()


@pytest.mark.parametrize("whole", [CLIPConfig, T5Config, GPT2Config])
def test_pretrained_models_of_any_family_in_full_precision(tmp_path: Path, whole: type) -> None:
    torch.manual_seed(0)
    sizes = FAMILIES[whole.model_type]
    config = whole(**(sizes if "text_config" in sizes else {**SMALL, **sizes}))
    original = AutoModel.from_config(config).half()
    original.save_pretrained(tmp_path)
    encoder = TextEncoder(name=str(tmp_path))
    theirs = original.state_dict()
    for name, value in encoder.body.state_dict().items():
        assert value.dtype == torch.float32
        expected = [theirs[key] for key in theirs if key.endswith(name)]
        assert any(torch.equal(value, other.float()) for other in expected)


def test_a_folder_without_all_weights_is_refused(tmp_path: Path) -> None:
    """transformers would go on with random ones."""
    RobertaModel(RobertaConfig(**SMALL)).save_pretrained(tmp_path)
    weights = load_file(tmp_path / "model.safetensors")
    del weights["encoder.layer.0.output.dense.weight"]
    save_file(weights, tmp_path / "model.safetensors", {"format": "pt"})
    with pytest.raises(ConfigError, match=r"no weights for 1 .*encoder.layer.0.output.dense.weig"):
        TextEncoder(name=str(tmp_path))


@pytest.mark.parametrize(
    ("config", "tokenizer", "message"),
    [
        ({}, HashTokenizer(50, 39), r"cannot read texts of 39 tokens .*smaller tokenizer.max_leng"),
        (
            {},
            HashTokenizer(51, 8),
            "writes ids up to 50, but the language model's vocab_size is 50",
        ),
        ({"model_type": "fnet"}, HashTokenizer(50, 8), "beside a longer one; choose another"),
        ({"model_type": "vit", "image_size": 32}, HashTokenizer(50, 8), "cannot read texts of 8"),
        (
            {"model_type": "clip_text_model", "eos_token_id": 49},
            HashTokenizer(49, 8),
            "give text_encoder.sentence=mean",
        ),
        (
            {"model_type": "opt", "word_embed_proj_dim": 8, "ffn_dim": 8},
            HashTokenizer(50, 8),
            r"vectors of shape \(2, 8, 8\).* hidden_size of 16",
        ),
    ],
)
def test_what_does_not_read_is_refused_before_a_training(
    config: dict[str, Any], tokenizer: HashTokenizer, message: str
) -> None:
    encoder = TextEncoder(config={"model_type": "roberta", **SMALL, **config})
    with pytest.raises(ConfigError, match=message):
        check_texts(encoder, tokenizer)
    assert encoder.training


def test_a_much_smaller_vocabulary_is_named(caplog: pytest.LogCaptureFixture) -> None:
    encoder = TextEncoder(config={"model_type": "roberta", **SMALL})
    check_texts(encoder, HashTokenizer(30, 8))
    assert "has 30 tokens and the language model 50" in caplog.text


def test_a_tokenizer_without_padding_and_of_few_positions(tmp_path: Path) -> None:
    """As GPT-2's, which a tokenizer of its kind would end on; and a text without a token."""
    words = {"<|endoftext|>": 0, "a": 1, "man": 2, "?": 3}
    inner = tokenizers.Tokenizer(tokenizers.models.WordLevel(words, "?"))
    inner.pre_tokenizer = tokenizers.pre_tokenizers.WhitespaceSplit()
    PreTrainedTokenizerFast(
        tokenizer_object=inner, eos_token="<|endoftext|>", model_max_length=4, padding_side="left"
    ).save_pretrained(tmp_path)
    tokenizer = HuggingFaceTokenizer(str(tmp_path))
    ids, mask = tokenizer(["a man", "a a a man man a"])
    assert ids.tolist() == [[1, 2, 0, 0], [1, 1, 1, 2]]
    assert mask.tolist() == [[1, 1, 0, 0], [1, 1, 1, 1]]
    assert tokenizer.vocab_size == 4
    with pytest.raises(PromptError, match="finds no token in '  '"):
        tokenizer(["a man", "  "])


def test_the_mean_is_of_the_tokens_where_the_model_has_a_vector_of_its_own() -> None:
    torch.manual_seed(0)
    config = {"model_type": "clip", **FAMILIES["clip"]}
    encoder = TextEncoder(config=config, sentence="mean").eval()
    ids = torch.tensor([[0, 7, 8, 2, 1]])
    hidden, sentence = encoder(ids, (ids != 1).long())
    torch.testing.assert_close(sentence, hidden[:, :4].mean(1))


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
    with pytest.raises(ConfigError, match=r"cannot build the model of text_encoder.config: .*nosu"):
        TextEncoder(config={"model_type": "nosuch", **SMALL})
    with pytest.raises(ConfigError, match=r"cannot build the model of text_encoder.config"):
        TextEncoder(config={"model_type": "bert", **SMALL, "num_attention_heads": 3})
