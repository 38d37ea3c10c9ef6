"""A tiny hub repository of each tested family of language models: its real class and files, random weights."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
import transformers as hf

from mmcl.tests import blips
from mmcl.tests.repository import (
    LLAMA,
    SIDE,
    SIGLIP,
    SQUARE,
    VISION,
    Repository,
    chat,
    ids,
    pictures,
    words,
)

SPREAD = 0.3  # of the random weights; at the usual 0.02 every image would get the same answer
LOUDER = 3  # the weights of what ends an answer, so that answers end after different numbers of steps


def build(name: str) -> Repository:
    """The same weights every time, so widely spread that images get different answers, of different lengths."""
    made = BUILDERS[name]()
    drawn = torch.Generator().manual_seed(made.seed)
    for weight in made.model.parameters():
        if weight.ndim > 1:
            torch.nn.init.normal_(weight, std=SPREAD, generator=drawn)
    head = getattr(made.model, "text_decoder", made.model).get_output_embeddings()
    head.weight.data[made.tokenizer.convert_tokens_to_ids(list(made.ends))] *= LOUDER
    return made


def llava() -> Repository:
    named = {"pad_token": "<pad>", "bos_token": "<s>", "eos_token": "</s>"}
    tokenizer = words("<pad>", "<s>", "</s>", "<image>", **named)
    text = LLAMA | {"model_type": "llama", "vocab_size": len(tokenizer)} | _ends(tokenizer, "<s>", "</s>", "<pad>")
    vision = VISION | {"model_type": "clip_vision_model", "num_hidden_layers": 3}
    config = hf.LlavaConfig(vision_config=vision, text_config=text, image_token_index=3, image_seq_length=16)
    said = {"patch_size": 8, "vision_feature_select_strategy": "default", "num_additional_image_tokens": 1}
    size = {"size": {"shortest_edge": SIDE}, "crop_size": SQUARE}
    files = {
        "preprocessor_config.json": pictures("CLIPImageProcessor", "LlavaProcessor", **size),
        "processor_config.json": said | {"image_token": "<image>", "processor_class": "LlavaProcessor"},
        "chat_template.json": {"chat_template": chat("<image>")},
    }
    return Repository(hf.LlavaForConditionalGeneration(config), tokenizer, files, seed=0)


def _ends(tokenizer: Any, start: str, end: str, pad: str) -> dict[str, int]:
    return ids(tokenizer, {"bos_token_id": start, "eos_token_id": end, "pad_token_id": pad})


def _qwen_words(*marks: str) -> Any:
    start = ("<|endoftext|>", "<|im_end|>", "<|vision_start|>", "<|vision_end|>", "<|image_pad|>", "<|video_pad|>")
    named = {"eos_token": "<|im_end|>", "pad_token": "<|endoftext|>"}
    return words(*start, *marks, **named)


def llava_onevision() -> Repository:
    tokenizer = _qwen_words("<image>", "<video>")
    pinpoints = [[SIDE, SIDE], [2 * SIDE, SIDE], [SIDE, 2 * SIDE]]
    text = LLAMA | {"model_type": "qwen2", "vocab_size": len(tokenizer)}
    config = hf.LlavaOnevisionConfig(
        vision_config=SIGLIP,
        text_config=text | _ends(tokenizer, "<|endoftext|>", "<|im_end|>", "<|endoftext|>"),
        image_grid_pinpoints=pinpoints,
        vision_feature_layer=-1,
        vision_feature_select_strategy="full",
        **ids(tokenizer, {"image_token_index": "<image>", "video_token_index": "<video>"}),
    )
    kind, said = "LlavaOnevisionProcessor", {"num_image_tokens": 16, "vision_feature_select_strategy": "full"}
    size = {"size": SQUARE, "image_grid_pinpoints": pinpoints}
    files = {
        "preprocessor_config.json": pictures("LlavaOnevisionImageProcessor", kind, **size),
        "processor_config.json": said | {"image_token": "<image>", "video_token": "<video>", "processor_class": kind},
        "chat_template.json": {"chat_template": chat("<image>")},
    }
    model = hf.LlavaOnevisionForConditionalGeneration(config)
    return Repository(model, tokenizer, files, ["<|im_end|>"], by_size=True, seed=1)


def _qwen(kind: str, image: str, patch: int, vision: dict[str, Any], text: dict[str, Any], size: dict[str, Any]) -> Any:
    tokenizer = _qwen_words()
    rope = {"rope_type": "default", "rope_theta": 1e4, "mrope_section": [1, 1, 2]} | text.pop("rope", {})
    text |= LLAMA | {"vocab_size": len(tokenizer), "rope_parameters": rope}
    marks = ids(tokenizer, {"image_token_id": "<|image_pad|>", "video_token_id": "<|video_pad|>"})
    marks |= ids(tokenizer, {"vision_start_token_id": "<|vision_start|>", "vision_end_token_id": "<|vision_end|>"})
    config = getattr(hf, f"{kind}Config")(
        text_config=text | _ends(tokenizer, "<|endoftext|>", "<|im_end|>", "<|endoftext|>"),
        vision_config={"depth": 2, "hidden_size": 32, "num_heads": 4, "patch_size": patch} | vision,
        **marks,
    )
    said = size | {"patch_size": patch, "temporal_patch_size": 2, "merge_size": 2}
    template = {"chat_template": chat("<|vision_start|><|image_pad|><|vision_end|>")}
    files = {"preprocessor_config.json": pictures(image, f"{kind}Processor", **said), "chat_template.json": template}
    model = getattr(hf, f"{kind}ForConditionalGeneration")(config)
    return Repository(model, tokenizer, files, ["<|im_end|>"], by_size=True)


def qwen2_vl() -> Repository:
    size = {"min_pixels": 28**2, "max_pixels": 84**2}
    return _qwen("Qwen2VL", "Qwen2VLImageProcessor", 14, {"embed_dim": 32, "mlp_ratio": 2}, {}, size)


def qwen2_5_vl() -> Repository:
    vision = {"out_hidden_size": 32, "intermediate_size": 64, "fullatt_block_indexes": [1], "window_size": 56}
    size = {"min_pixels": 28**2, "max_pixels": 84**2}
    return _qwen("Qwen2_5_VL", "Qwen2VLImageProcessor", 14, vision, {}, size)


def qwen3_vl() -> Repository:
    vision = {"out_hidden_size": 32, "intermediate_size": 64, "deepstack_visual_indexes": [0]}
    vision |= {"num_position_embeddings": 16}
    text, size = {"head_dim": 8, "rope": {"mrope_interleaved": True}}, {"shortest_edge": 32**2, "longest_edge": 96**2}
    made = _qwen("Qwen3VL", "Qwen2VLImageProcessorFast", 16, vision, text, {"size": size})
    made.files["video_preprocessor_config.json"] = {"video_processor_type": "Qwen3VLVideoProcessor", "size": size}
    return made


def internvl() -> Repository:
    marks = ("<|endoftext|>", "<|im_end|>", "<img>", "</img>", "<IMG_CONTEXT>", "<video>")
    named = {"start_image_token": "<img>", "end_image_token": "</img>", "context_image_token": "<IMG_CONTEXT>"}
    ends = {"eos_token": "<|im_end|>", "pad_token": "<|endoftext|>"}
    tokenizer = words(*marks, extra_special_tokens=named | {"video_token": "<video>"}, **ends)
    text = LLAMA | {"model_type": "qwen2", "vocab_size": len(tokenizer)}
    config = hf.InternVLConfig(
        vision_config=VISION | {"image_size": [SIDE, SIDE], "patch_size": [8, 8]},
        text_config=text | _ends(tokenizer, "<|endoftext|>", "<|im_end|>", "<|endoftext|>"),
        image_seq_length=4,
        **ids(tokenizer, {"image_token_id": "<IMG_CONTEXT>"}),
    )
    kind = "InternVLProcessor"
    files = {
        "preprocessor_config.json": pictures("GotOcr2ImageProcessorFast", kind, size=SQUARE, crop_to_patches=False),
        "video_preprocessor_config.json": {"video_processor_type": "InternVLVideoProcessor", "size": SQUARE},
        "processor_config.json": {"image_seq_length": 4, "processor_class": kind},
        "chat_template.jinja": chat("<IMG_CONTEXT>"),
    }
    return Repository(hf.InternVLForConditionalGeneration(config), tokenizer, files, ["<|im_end|>"], by_size=True)


def _idefics(kind: str) -> Repository:
    rows = [f"<row_{row}_col_{column}>" for row in range(1, 4) for column in range(1, 4)]
    named = {"image_token": "<image>", "fake_image_token": "<fake_token_around_image>"}
    named |= {"global_image_token": "<global-img>", "end_of_utterance_token": "<end_of_utterance>"}
    ends = {"bos_token": "<|im_start|>", "eos_token": "<end_of_utterance>", "pad_token": "<pad>"}
    tokenizer = words("<pad>", "<|im_start|>", *named.values(), *rows, extra_special_tokens=named, **ends)
    text = LLAMA | {"model_type": "llama", "vocab_size": len(tokenizer)}
    config = getattr(hf, f"{kind}Config")(
        vision_config=VISION,
        text_config=text | _ends(tokenizer, "<|im_start|>", "<end_of_utterance>", "<pad>"),
        scale_factor=2,
        pad_token_id=0,
        **ids(tokenizer, {"image_token_id": "<image>"}),
    )
    size = {"size": {"longest_edge": 2 * SIDE}, "max_image_size": {"longest_edge": SIDE}, "do_image_splitting": True}
    files = {
        "preprocessor_config.json": pictures(f"{kind}ImageProcessor", f"{kind}Processor", **size),
        "processor_config.json": {"image_seq_len": 4, "processor_class": f"{kind}Processor"},
        "chat_template.json": {"chat_template": chat("<image>", "<|im_start|>", "<end_of_utterance>")},
    }
    model = getattr(hf, f"{kind}ForConditionalGeneration")(config)
    return Repository(model, tokenizer, files, ["<end_of_utterance>"], by_size=True)


def glm4v() -> Repository:
    marks = {"image_start_token_id": "<|begin_of_image|>", "image_end_token_id": "<|end_of_image|>"}
    marks |= {"video_start_token_id": "<|begin_of_video|>", "video_end_token_id": "<|end_of_video|>"}
    marks |= {"image_token_id": "<|image|>", "video_token_id": "<|video|>"}
    named = {"eos_token": "<|endoftext|>", "pad_token": "<|endoftext|>"}
    tokenizer = words("<|endoftext|>", "[gMASK]", "<sop>", "<|user|>", *marks.values(), **named)
    rope = {"rope_type": "default", "rope_theta": 1e4, "mrope_section": [1, 1, 2], "partial_rotary_factor": 1.0}
    text = LLAMA | {"vocab_size": len(tokenizer), "rope_parameters": rope}
    vision = {"depth": 2, "hidden_size": 32, "out_hidden_size": 32, "num_heads": 4, "intermediate_size": 64}
    config = hf.Glm4vConfig(
        text_config=text | _ends(tokenizer, "<|endoftext|>", "<|endoftext|>", "<|endoftext|>"),
        vision_config=vision | {"patch_size": 14, "image_size": 56},
        **ids(tokenizer, marks),
    )
    config.text_config.eos_token_id = tokenizer.convert_tokens_to_ids(["<|endoftext|>", "<|user|>"])
    size = {"shortest_edge": 2 * 28**2, "longest_edge": 2 * 84**2}
    said = {"size": size, "patch_size": 14, "temporal_patch_size": 2, "merge_size": 2}
    files = {
        "preprocessor_config.json": pictures("Glm4vImageProcessor", "Glm4vProcessor", **said),
        "video_preprocessor_config.json": {"video_processor_type": "Glm4vVideoProcessor", "size": size},
        "chat_template.jinja": chat("<|begin_of_image|><|image|><|end_of_image|>", "[gMASK]<sop>"),
    }
    model = hf.Glm4vForConditionalGeneration(config)
    return Repository(model, tokenizer, files, ["<|endoftext|>", "<|user|>"], by_size=True, seed=2)


def deepseek_vl() -> Repository:
    named = {"bos_token": "<s>", "eos_token": "</s>", "pad_token": "<pad>"}
    image = {"image_token": "<image_placeholder>"}
    tokenizer = words("<s>", "</s>", "<pad>", "<image_placeholder>", extra_special_tokens=image, **named)
    text = LLAMA | {"model_type": "llama", "vocab_size": len(tokenizer)} | _ends(tokenizer, "<s>", "</s>", "<pad>")
    marks = ids(tokenizer, {"image_token_id": "<image_placeholder>"})
    config = hf.DeepseekVLConfig(text_config=text, vision_config=SIGLIP, **marks)
    files = {
        "preprocessor_config.json": pictures("DeepseekVLImageProcessor", "DeepseekVLProcessor", size=SQUARE),
        "processor_config.json": {"num_image_tokens": 16, "processor_class": "DeepseekVLProcessor"},
        "chat_template.jinja": chat("<image_placeholder>", "<s>"),
    }
    return Repository(hf.DeepseekVLForConditionalGeneration(config), tokenizer, files)


def gemma3() -> Repository:
    named = {"boi_token": "<start_of_image>", "eoi_token": "<end_of_image>", "image_token": "<image_soft_token>"}
    ends = {"bos_token": "<bos>", "eos_token": "<eos>", "pad_token": "<pad>"}
    marks = ("<pad>", "<eos>", "<bos>", "<end_of_turn>", *named.values())
    tokenizer = words(*marks, extra_special_tokens=named, **ends)
    text = LLAMA | {"head_dim": 8, "sliding_window": 64, "vocab_size": len(tokenizer)}
    config = hf.Gemma3Config(
        text_config=text | _ends(tokenizer, "<bos>", "<eos>", "<pad>"),
        vision_config=SIGLIP,
        mm_tokens_per_image=4,
        **ids(tokenizer, {f"{name}_index": mark for name, mark in named.items()}),
    )
    model = hf.Gemma3ForConditionalGeneration(config)
    for name, weight in model.named_parameters():
        if "post_" in name:
            torch.nn.init.constant_(weight, 3)  # else it says its last word again whatever it sees
    said = {"eos_token_id": [1, 3], "cache_implementation": "hybrid", "do_sample": True, "top_k": 64, "top_p": 0.95}
    model.generation_config.update(**said)
    files = {
        "preprocessor_config.json": pictures(
            "Gemma3ImageProcessor", "Gemma3Processor", size=SQUARE, image_seq_length=4
        ),
        "processor_config.json": {"image_seq_length": 4, "processor_class": "Gemma3Processor"},
        "chat_template.json": {"chat_template": chat("<start_of_image>", "<bos>", "<end_of_turn>")},
    }
    return Repository(model, tokenizer, files, ["<eos>", "<end_of_turn>"])


def paligemma() -> Repository:
    named = {"bos_token": "<bos>", "eos_token": "<eos>", "pad_token": "<pad>"}
    image = {"image_token": "<image>"}
    tokenizer = words("<pad>", "<eos>", "<bos>", "<image>", extra_special_tokens=image, **named)
    text = LLAMA | {"model_type": "gemma", "head_dim": 8, "vocab_size": len(tokenizer)}
    config = hf.PaliGemmaConfig(
        text_config=text | _ends(tokenizer, "<bos>", "<eos>", "<pad>"),
        vision_config=SIGLIP | {"projection_dim": 32, "num_image_tokens": 16},
        projection_dim=32,
        **ids(tokenizer, {"image_token_index": "<image>"}),
    )
    said = pictures("SiglipImageProcessor", "PaliGemmaProcessor", size=SQUARE, image_seq_length=16)
    model = hf.PaliGemmaForConditionalGeneration(config)
    return Repository(model, tokenizer, {"preprocessor_config.json": said}, ["<eos>"], seed=0)


BUILDERS: dict[str, Callable[[], Repository]] = {
    "BLIP-VQA": blips.blip_vqa,
    "BLIP-2": blips.blip2,
    "InstructBLIP": blips.instructblip,
    "LLaVA": llava,
    "LLaVA-OneVision": llava_onevision,
    "Qwen2-VL": qwen2_vl,
    "Qwen2.5-VL": qwen2_5_vl,
    "Qwen3-VL": qwen3_vl,
    "InternVL": internvl,
    "SmolVLM": partial(_idefics, "SmolVLM"),
    "Idefics3": partial(_idefics, "Idefics3"),
    "GLM-4V": glm4v,
    "DeepSeek-VL": deepseek_vl,
    "Gemma 3": gemma3,
    "PaliGemma": paligemma,
}
