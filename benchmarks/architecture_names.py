"""What `benchmarks.architectures` walks: small configurations of what people bring, with random weights."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Architecture:
    """One architecture, as `edgeport init` is asked for it.

    Attributes:
        source: `torchvision:NAME`, `timm:NAME`, or `hf:NAME` of a folder that `write_configurations` makes.
        arguments: Of the factory.
        inputs: `--input`, where the architecture itself does not say how small its pictures may be.

    """

    source: str
    arguments: Mapping[str, object] = field(default_factory=dict)
    inputs: str = ""

    @property
    def name(self) -> str:
        """Fit for a file."""
        return self.source.replace(":", "-")


def _torchvision(*names: str, size: int = 64) -> list[Architecture]:
    return [Architecture(source=f"torchvision:{name}", inputs=f"x=batch,3,{size},{size}") for name in names]


def _timm(*names: str, size: int = 64) -> list[Architecture]:
    return [Architecture(source=f"timm:{name}", inputs=f"x=batch,3,{size},{size}") for name in names]


def _timm_sized(*names: str, size: int = 64) -> list[Architecture]:
    """Those that are built for one size of picture."""
    return [
        Architecture(source=f"timm:{name}", arguments={"img_size": size}, inputs=f"x=batch,3,{size},{size}")
        for name in names
    ]


# Class of the configuration and of the task, and the settings that make it small.
_TEXT = {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 128}
_VISION = {**_TEXT, "image_size": 32, "patch_size": 8}
_CONFIGURATIONS: Mapping[str, tuple[str, str, Mapping[str, Any]]] = {
    "bert": ("BertConfig", "BertForSequenceClassification", {**_TEXT, "vocab_size": 1000}),
    "bert-tokens": ("BertConfig", "BertForTokenClassification", {**_TEXT, "vocab_size": 1000}),
    "bert-questions": ("BertConfig", "BertForQuestionAnswering", {**_TEXT, "vocab_size": 1000, "num_labels": 2}),
    "roberta": ("RobertaConfig", "RobertaForSequenceClassification", {**_TEXT, "vocab_size": 1000}),
    "distilbert": (
        "DistilBertConfig",
        "DistilBertForSequenceClassification",
        {"dim": 64, "n_layers": 2, "n_heads": 4, "hidden_dim": 128, "vocab_size": 1000},
    ),
    "albert": ("AlbertConfig", "AlbertForSequenceClassification", {**_TEXT, "embedding_size": 32, "vocab_size": 1000}),
    "electra": (
        "ElectraConfig",
        "ElectraForSequenceClassification",
        {**_TEXT, "embedding_size": 32, "vocab_size": 1000},
    ),
    "mpnet": ("MPNetConfig", "MPNetForSequenceClassification", {**_TEXT, "vocab_size": 1000}),
    "camembert": ("CamembertConfig", "CamembertForSequenceClassification", {**_TEXT, "vocab_size": 1000}),
    "deberta-v2": ("DebertaV2Config", "DebertaV2ForSequenceClassification", {**_TEXT, "vocab_size": 1000}),
    "squeezebert": (
        "SqueezeBertConfig",
        "SqueezeBertForSequenceClassification",
        {**_TEXT, "embedding_size": 64, "vocab_size": 1000},
    ),
    "layoutlm": ("LayoutLMConfig", "LayoutLMForSequenceClassification", {**_TEXT, "vocab_size": 1000}),
    "vit": ("ViTConfig", "ViTForImageClassification", _VISION),
    "deit": ("DeiTConfig", "DeiTForImageClassification", _VISION),
    "beit": ("BeitConfig", "BeitForImageClassification", _VISION),
    "dinov2": ("Dinov2Config", "Dinov2ForImageClassification", _VISION),
    "swin": (
        "SwinConfig",
        "SwinForImageClassification",
        {
            "image_size": 64,
            "patch_size": 4,
            "embed_dim": 32,
            "depths": [1, 1, 2],
            "num_heads": [2, 4, 4],
            "window_size": 4,
        },
    ),
    "convnext": (
        "ConvNextConfig",
        "ConvNextForImageClassification",
        {"image_size": 64, "hidden_sizes": [16, 32, 64, 96], "depths": [1, 1, 2, 1]},
    ),
    "resnet": (
        "ResNetConfig",
        "ResNetForImageClassification",
        {"embedding_size": 16, "hidden_sizes": [32, 64], "depths": [1, 1]},
    ),
    "mobilevit": (
        "MobileViTConfig",
        "MobileViTForImageClassification",
        {"image_size": 64, "hidden_sizes": [32, 48, 64], "neck_hidden_sizes": [8, 16, 24, 32, 48, 64, 96]},
    ),
    "segformer": (
        "SegformerConfig",
        "SegformerForImageClassification",
        {
            "image_size": 64,
            "hidden_sizes": [16, 32, 40, 64],
            "depths": [1, 1, 1, 1],
            "num_attention_heads": [1, 2, 5, 8],
        },
    ),
    "regnet": (
        "RegNetConfig",
        "RegNetForImageClassification",
        {"embedding_size": 16, "hidden_sizes": [32, 64], "depths": [1, 1], "groups_width": 16},
    ),
}


def write_configurations(folder: Path) -> list[Architecture]:
    """A folder with a `config.json` for each architecture of transformers; without weights, they are random."""
    import transformers

    found = []
    for name, (configuration, task, settings) in _CONFIGURATIONS.items():
        place = folder / name
        if not (place / "config.json").exists():
            made = getattr(transformers, configuration)(**{"num_labels": 8, **settings})
            made.architectures = [task]
            made.save_pretrained(place)
        found.append(Architecture(source=f"hf:{place}"))
    return found


ARCHITECTURES: list[Architecture] = [
    *_torchvision("alexnet", "vgg11", "vgg11_bn", "squeezenet1_0", "squeezenet1_1"),
    *_torchvision("resnet18", "resnet34", "resnet50", "resnext50_32x4d", "wide_resnet50_2", "densenet121", "googlenet"),
    *_torchvision("mobilenet_v2", "mobilenet_v3_small", "mobilenet_v3_large", "mnasnet0_5", "mnasnet1_0"),
    *_torchvision(
        "shufflenet_v2_x0_5", "shufflenet_v2_x1_0", "efficientnet_b0", "efficientnet_b1", "efficientnet_v2_s"
    ),
    *_torchvision("regnet_y_400mf", "regnet_x_400mf", "regnet_x_800mf", "regnet_y_800mf", "convnext_tiny"),
    *_torchvision("swin_t", "swin_v2_t", size=64),
    *_torchvision("inception_v3", size=96),
    *_torchvision("vit_b_32", size=224),
    *_torchvision("fcn_resnet50", "deeplabv3_mobilenet_v3_large", "lraspp_mobilenet_v3_large"),
    *_timm("resnet18", "resnet26", "resnet26d", "resnetv2_50", "seresnet50", "ecaresnet26t", "res2net50_26w_4s"),
    *_timm("skresnet18", "cspresnet50", "cspdarknet53", "selecsls42b", "resnest14d"),
    *_timm("efficientnet_lite0", "efficientnet_b0", "tf_efficientnet_b0", "mobilenetv2_100", "mobilenetv3_small_100"),
    *_timm("mobilenetv4_conv_small", "mobilenetv4_hybrid_medium", "mnasnet_100", "fbnetc_100", "spnasnet_100"),
    *_timm("ghostnet_100", "ghostnetv2_100", "tinynet_a", "tinynet_e", "mixnet_s", "hardcorenas_a", "lcnet_050"),
    *_timm("repvgg_a0", "repvit_m1", "mobileone_s0", "repghostnet_050", "dla34", "dla46_c", "hrnet_w18_small"),
    *_timm("nfnet_f0", "regnetx_002", "regnety_002", "vovnet39a", "ese_vovnet19b_dw", "xception41", "densenet121"),
    *_timm("convnext_atto", "convnextv2_atto", "convnext_femto", "fastvit_t8", "inception_next_atto", "hgnetv2_b0"),
    *_timm("mobilevit_xxs", "mobilevitv2_050", "edgenext_xx_small", "poolformer_s12", "starnet_s1", "rexnet_100"),
    *_timm("efficientformerv2_s0", "efficientvit_b0", "pvt_v2_b0", "shvit_s1", size=224),
    *_timm_sized("vit_tiny_patch16_224", "deit_tiny_patch16_224", "vit_tiny_r_s16_p8_224", "cait_xxs24_224"),
    *_timm_sized("mixer_s32_224", "resmlp_12_224", "gmlp_ti16_224", "xcit_nano_12_p16_224", "coat_lite_tiny"),
    *_timm("levit_128s", "tiny_vit_5m_224", "beit_base_patch16_224", "crossvit_tiny_240", size=224),
]
