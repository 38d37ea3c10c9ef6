"""Which model families were tested, what each needs, and what is known not to work: data, and nothing else.

Any other type of transformers takes the same path, and is refused where it does not fit.
"""

from __future__ import annotations

from dataclasses import dataclass

ASKED = "strip or single, as the prompt says"
EXTRAS = {  # a package that some types need and mmcl does not install by itself: how to get it
    "torchvision": "pip install 'mmcl[vision]'",
    "num2words": "pip install 'mmcl[smolvlm]'",
    "timm": "pip install 'mmcl[timm]'",
}


@dataclass(frozen=True)
class Family:
    """Models that take one path; every one named here is held by the tests, on a tiny checkpoint of its own."""

    name: str
    types: tuple[str, ...]  # model_type in config.json
    example: str  # an id on the Hugging Face hub
    layout: str  # of the person images it looks at
    needs: str = ""  # beside what mmcl itself installs
    note: str = ""


LLM_FAMILIES = (
    Family("BLIP-VQA", ("blip",), "Salesforce/blip-vqa-capfilt-large", ASKED),
    Family("BLIP-2", ("blip-2",), "Salesforce/blip2-opt-2.7b", ASKED),
    Family("InstructBLIP", ("instructblip",), "Salesforce/instructblip-flan-t5-xl", ASKED),
    Family("LLaVA", ("llava",), "llava-hf/llava-1.5-7b-hf", ASKED),
    Family("LLaVA-OneVision", ("llava_onevision",), "llava-hf/llava-onevision-qwen2-0.5b-ov-hf", ASKED),
    Family("Qwen2-VL", ("qwen2_vl",), "Qwen/Qwen2-VL-2B-Instruct", ASKED),
    Family("Qwen2.5-VL", ("qwen2_5_vl",), "Qwen/Qwen2.5-VL-3B-Instruct", ASKED),
    Family("Qwen3-VL", ("qwen3_vl",), "Qwen/Qwen3-VL-2B-Instruct", ASKED),
    Family("InternVL", ("internvl",), "OpenGVLab/InternVL3-1B-hf", ASKED),
    Family("SmolVLM", ("smolvlm",), "HuggingFaceTB/SmolVLM2-500M-Video-Instruct", ASKED, EXTRAS["num2words"]),
    Family("Idefics3", ("idefics3",), "HuggingFaceM4/Idefics3-8B-Llama3", ASKED),
    Family("GLM-4V", ("glm4v",), "zai-org/GLM-4.1V-9B-Thinking", ASKED, note="thinks before it answers: mass is small"),
    Family("DeepSeek-VL", ("deepseek_vl",), "deepseek-community/deepseek-vl-1.3b-chat", ASKED),
    Family("Gemma 3", ("gemma3",), "google/gemma-3-4b-it", ASKED),
    Family("PaliGemma", ("paligemma",), "google/paligemma-3b-mix-224", ASKED, note="wants 'answer en' before the text"),
)

RGB_FAMILIES = (
    Family("ResNet", ("resnet",), "microsoft/resnet-34", "strip"),
    Family("ConvNeXt", ("convnext", "convnextv2"), "facebook/convnext-tiny-224", "strip"),
    Family("ViT", ("vit",), "google/vit-base-patch16-224", "strip"),
    Family("DINOv2", ("dinov2",), "facebook/dinov2-base", "strip"),
    Family("DINOv3", ("dinov3_vit", "dinov3_convnext"), "facebook/dinov3-vits16-pretrain-lvd1689m", "strip"),
    Family("CLIP", ("clip",), "openai/clip-vit-base-patch32", "strip"),
    Family("SigLIP", ("siglip",), "google/siglip-base-patch16-224", "strip"),
    Family("Swin", ("swin",), "microsoft/swin-tiny-patch4-window7-224", "strip"),
    Family("VideoMAE", ("videomae",), "MCG-NJU/videomae-base", "frames-16"),
    Family("V-JEPA 2", ("vjepa2",), "facebook/vjepa2-vitl-fpc64-256", "frames-64"),
    Family("TimeSformer", ("timesformer",), "facebook/timesformer-base-finetuned-k400", "frames-8"),
    Family("timm", ("timm_wrapper",), "timm/inception_v3.tv_in1k", "strip", EXTRAS["timm"], "the paper's network"),
)

# Types that gave the right numbers when they were tried once, on a tiny checkpoint; no test holds them.
TRIED_LLM_TYPES = (
    *("aria", "aya_vision", "chameleon", "deepseek_vl_hybrid", "glm46v", "glm4v_moe", "idefics2", "janus"),
    *("llava_next", "llava_next_video", "mllama", "qwen3_vl_moe", "t5gemma2", "video_llama_3", "video_llava"),
    *("vipllava",),
)

# Types for whose images transformers has no preprocessing without torchvision; Mistral 3 was tried once with it.
TORCHVISION_LLM_TYPES = (
    *("cohere2_vision", "gemma4_unified", "kimi_k25", "lfm2_vl", "llama4", "minimax_m3_vl", "mistral3", "molmo2"),
    *("muse_glimmer", "muse_spark", "nemotron_h_omni", "perception_lm", "step3p7"),
)

# (model_type, why): refused before anything is loaded
KNOWN_NOT_TO_WORK = (
    ("git", "its processor closes the question with the token that ends an answer"),
    ("got_ocr2", "it reads the writing in a picture and takes no question"),
    ("vit_mae", "it hides three quarters of the picture at random"),
    ("vilt", "it picks from fixed answers and generates no text"),
)
