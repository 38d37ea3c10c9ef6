"""The three BLIPs, whose language models see the image through cross-attention or a few learned queries."""

from __future__ import annotations

from typing import Any

import transformers as hf

from mmcl.tests.repository import OPT, QFORMER, SQUARE, T5, VISION, Repository, bert, ids, pictures, words


def blip_vqa() -> Repository:
    tokenizer = bert()
    tokenizer.add_special_tokens({"bos_token": "[DEC]"})
    marks = {"bos_token_id": "[DEC]", "eos_token_id": "[SEP]", "sep_token_id": "[SEP]", "pad_token_id": "[PAD]"}
    text = {"vocab_size": len(tokenizer), "hidden_size": 32, "encoder_hidden_size": 32, "intermediate_size": 64}
    text |= {"num_hidden_layers": 2, "num_attention_heads": 2, "max_position_embeddings": 64, "projection_dim": 16}
    config = hf.BlipConfig(
        text_config=text | ids(tokenizer, marks), vision_config=VISION, projection_dim=16, image_text_hidden_size=16
    )
    files = {"preprocessor_config.json": pictures("BlipImageProcessor", "BlipProcessor", size=SQUARE)}
    model = hf.BlipForQuestionAnswering(config)
    return Repository(
        model, tokenizer, files, ["[SEP]"], entering=lambda m, s: m.text_decoder.cls.predictions.transform(s)
    )


def _blip_words() -> tuple[Any, dict[str, int]]:
    named = {"bos_token": "</s>", "eos_token": "</s>", "pad_token": "<pad>"}
    tokenizer = words("<pad>", "</s>", "<image>", **named)
    return tokenizer, {"vocab_size": len(tokenizer), "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 1}


def _blip_files(processor: str) -> dict[str, Any]:
    return {
        "preprocessor_config.json": pictures("BlipImageProcessor", processor, size=SQUARE),
        "processor_config.json": {"num_query_tokens": 4, "processor_class": processor},
    }


def blip2() -> Repository:
    tokenizer, marks = _blip_words()
    more = {"num_query_tokens": 4, "image_token_index": 2}
    config = hf.Blip2Config(vision_config=VISION, qformer_config=QFORMER, text_config=OPT | marks, **more)
    model = hf.Blip2ForConditionalGeneration(config)
    model.generation_config = hf.GenerationConfig()  # only its language model's config says what ends an answer
    return Repository(model, tokenizer, _blip_files("Blip2Processor"))


def instructblip() -> Repository:
    tokenizer, marks = _blip_words()
    second = bert()
    config = hf.InstructBlipConfig(
        vision_config=VISION,
        qformer_config=QFORMER | {"vocab_size": len(second)},
        text_config=T5 | marks | {"decoder_start_token_id": 0},
        num_query_tokens=4,
        image_token_index=2,
    )
    return Repository(
        hf.InstructBlipForConditionalGeneration(config),
        tokenizer,
        _blip_files("InstructBlipProcessor"),
        folders={"qformer_tokenizer": second},
        entering=lambda model, state: state * model.config.text_config.d_model**-0.5,
    )
