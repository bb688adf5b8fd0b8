"""Tiny models with random weights, saved with `save_pretrained` like real ones."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

SIZES: dict[str, Any] = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}


def seeded() -> Any:
    """torch with a fixed seed, so that the weights are always the same."""
    import torch

    torch.manual_seed(0)
    torch.set_num_threads(1)  # more threads only wait for each other in such small models
    return torch


def pictures(sizes: list[tuple[int, int]]) -> list[Image.Image]:
    """Noise of the given (width, height)."""
    rng = np.random.default_rng(0)
    return [Image.fromarray(rng.integers(0, 256, (h, w, 3), np.uint8)) for w, h in sizes]


def detr(folder: Path, labels: dict[int, str]) -> Path:
    """DETR: images keep their shape, so their batches are made of equals."""
    seeded()
    from transformers import DetrConfig, DetrForObjectDetection, DetrImageProcessorPil, ResNetConfig

    backbone: dict[str, Any] = {
        "embedding_size": 4, "hidden_sizes": [4, 4, 8, 8], "depths": [1, 1, 1, 1], "layer_type": "basic",
        "out_features": ["stage4"],
    }  # fmt: skip
    config = DetrConfig(
        backbone_config=ResNetConfig(**backbone), num_queries=6, d_model=16, encoder_layers=1, decoder_layers=1,
        encoder_ffn_dim=16, decoder_ffn_dim=16, encoder_attention_heads=2, decoder_attention_heads=2, id2label=labels,
    )  # fmt: skip
    model = DetrForObjectDetection(config)
    for name, parameter in model.named_parameters():  # fresh heads are so weak that all boxes are the image's middle
        if name.startswith(("bbox_predictor", "class_labels_classifier", "model.query")) and parameter.ndim > 1:
            parameter.data.normal_(std=0.25)
    model.save_pretrained(folder)
    DetrImageProcessorPil(size={"shortest_edge": 32, "longest_edge": 64}).save_pretrained(folder)
    return folder


def rt_detr(folder: Path, labels: dict[int, str]) -> Path:
    """RT-DETR: every image is resized to one shape."""
    seeded()
    from transformers import RTDetrConfig, RTDetrForObjectDetection, RTDetrImageProcessorPil, RTDetrResNetConfig

    backbone: dict[str, Any] = {
        "embedding_size": 4, "hidden_sizes": [4, 8, 8, 8], "depths": [1, 1, 1, 1], "layer_type": "basic",
        "out_features": ["stage2", "stage3", "stage4"],
    }  # fmt: skip
    config = RTDetrConfig(
        backbone_config=RTDetrResNetConfig(**backbone), encoder_hidden_dim=16, encoder_in_channels=[8, 8, 8],
        encoder_ffn_dim=16, encoder_attention_heads=2, d_model=16, num_queries=6, decoder_in_channels=[16, 16, 16],
        decoder_ffn_dim=16, decoder_layers=1, decoder_attention_heads=2, num_denoising=0, id2label=labels,
    )  # fmt: skip
    RTDetrForObjectDetection(config).save_pretrained(folder)
    RTDetrImageProcessorPil(size={"height": 64, "width": 64}).save_pretrained(folder)
    return folder


def clip_tokenizer(folder: Path) -> Any:
    """A byte-pair tokenizer without merges: each letter is a token."""
    from transformers import CLIPTokenizer

    letters = "abcdefghijklmnopqrstuvwxyz"
    pieces = [*letters, *(f"{letter}</w>" for letter in letters), "<|startoftext|>", "<|endoftext|>"]
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "vocab.json").write_text(json.dumps({piece: k for k, piece in enumerate(pieces)}))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    return CLIPTokenizer.from_pretrained(folder, model_max_length=16)


def owl_vit(folder: Path) -> Path:
    """OWL-ViT: detects objects given as text."""
    seeded()
    from transformers import OwlViTConfig, OwlViTForObjectDetection, OwlViTImageProcessorPil, OwlViTProcessor

    tokenizer = clip_tokenizer(folder)
    config = OwlViTConfig(
        text_config={
            **SIZES, "vocab_size": len(tokenizer), "max_position_embeddings": 16,
            "bos_token_id": tokenizer.bos_token_id, "eos_token_id": tokenizer.eos_token_id,
        },
        vision_config={**SIZES, "image_size": 32, "patch_size": 8},
        projection_dim=16,
    )  # fmt: skip
    OwlViTForObjectDetection(config).save_pretrained(folder)
    images = OwlViTImageProcessorPil(size={"height": 32, "width": 32})
    OwlViTProcessor(image_processor=images, tokenizer=tokenizer).save_pretrained(folder)
    return folder


def grounding_dino(folder: Path, words: list[str]) -> Path:
    """Grounding DINO: like OWL-ViT, but returns pieces of its prompt."""
    seeded()
    from transformers import (
        BertConfig,
        BertTokenizer,
        GroundingDinoConfig,
        GroundingDinoForObjectDetection,
        GroundingDinoImageProcessorPil,
        GroundingDinoProcessor,
        SwinConfig,
    )

    # The model finds the ends of phrases by BERT's own numbers of these.
    vocabulary = {101: "[CLS]", 102: "[SEP]", 1012: ".", 1029: "?", 0: "[PAD]", 100: "[UNK]", 103: "[MASK]"}
    vocabulary |= {2000 + k: word for k, word in enumerate(words)}
    pieces = [vocabulary.get(k, f"[unused{k}]") for k in range(2000 + len(words))]
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "vocab.txt").write_text("\n".join(pieces))
    tokenizer = BertTokenizer.from_pretrained(folder)
    backbone: dict[str, Any] = {
        "image_size": 32, "patch_size": 4, "embed_dim": 8, "depths": [1, 1, 1], "num_heads": [1, 1, 1],
        "window_size": 2, "out_indices": [2, 3],
    }  # fmt: skip
    text = BertConfig(vocab_size=len(pieces), **SIZES)
    config = GroundingDinoConfig(
        backbone_config=SwinConfig(**backbone), text_config=text, num_queries=6, encoder_layers=1, encoder_ffn_dim=16,
        encoder_attention_heads=2, decoder_layers=2, decoder_ffn_dim=16, decoder_attention_heads=2, d_model=32,
        num_feature_levels=2, max_text_len=16,
    )  # fmt: skip
    GroundingDinoForObjectDetection(config).save_pretrained(folder)
    images = GroundingDinoImageProcessorPil(size={"shortest_edge": 32, "longest_edge": 64})
    GroundingDinoProcessor(image_processor=images, tokenizer=tokenizer).save_pretrained(folder)
    return folder


def word_tokenizer(words: list[str]) -> Any:
    """One token a word."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    tokenizer = Tokenizer(models.WordLevel({w: k for k, w in enumerate([*special, *words])}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="[PAD]", unk_token="[UNK]", cls_token="[CLS]", sep_token="[SEP]",
        mask_token="[MASK]", model_max_length=32,
    )  # fmt: skip


def vision_encoder_decoder(folder: Path, words: list[str]) -> Path:
    """A ViT that a GPT-2 reads."""
    seeded()
    from transformers import (
        GPT2Config,
        VisionEncoderDecoderConfig,
        VisionEncoderDecoderModel,
        ViTConfig,
        ViTImageProcessorPil,
    )

    tokenizer = word_tokenizer(words)
    encoder = ViTConfig(**SIZES, image_size=32, patch_size=8)
    decoder = GPT2Config(
        vocab_size=len(tokenizer), n_positions=32, n_embd=16, n_layer=1, n_head=2, add_cross_attention=True,
        bos_token_id=2, eos_token_id=3, initializer_range=1.0,
    )  # fmt: skip
    config = VisionEncoderDecoderConfig.from_encoder_decoder_configs(encoder, decoder)
    config.decoder_start_token_id, config.pad_token_id, config.eos_token_id = 2, 0, 3
    model = VisionEncoderDecoderModel(config=config)
    model.generation_config.update(decoder_start_token_id=2, pad_token_id=0, eos_token_id=3, bos_token_id=2)
    model.save_pretrained(folder)
    ViTImageProcessorPil(size={"height": 32, "width": 32}).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def blip(folder: Path, words: list[str]) -> Path:
    seeded()
    from transformers import BlipConfig, BlipForConditionalGeneration, BlipImageProcessorPil

    tokenizer = word_tokenizer(words)
    sizes = {**SIZES, "projection_dim": 16, "initializer_range": 1.0}
    config = BlipConfig(
        text_config={
            **sizes, "vocab_size": len(tokenizer), "encoder_hidden_size": 16, "max_position_embeddings": 64,
            "bos_token_id": 2, "eos_token_id": 3, "sep_token_id": 3, "pad_token_id": 0,
        },
        vision_config={**sizes, "image_size": 32, "patch_size": 8},
        projection_dim=16, image_text_hidden_size=16,
    )  # fmt: skip
    BlipForConditionalGeneration(config).save_pretrained(folder)
    BlipImageProcessorPil(size={"height": 32, "width": 32}).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def git(folder: Path, words: list[str]) -> Path:
    seeded()
    from transformers import CLIPImageProcessorPil, GitConfig, GitForCausalLM

    tokenizer = word_tokenizer(words)
    config = GitConfig(
        vision_config={**SIZES, "image_size": 32, "patch_size": 8}, vocab_size=len(tokenizer), bos_token_id=2,
        eos_token_id=3, pad_token_id=0, max_position_embeddings=64, initializer_range=1.0, **SIZES,
    )  # fmt: skip
    GitForCausalLM(config).save_pretrained(folder)
    CLIPImageProcessorPil(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32}).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def marian(folder: Path, lines: list[str]) -> Path:
    """English to Chinese, both with SentencePiece models trained on the lines."""
    seeded()
    import sentencepiece
    from transformers import MarianConfig, MarianMTModel, MarianTokenizer

    folder.mkdir(parents=True, exist_ok=True)
    for side in ("source", "target"):
        with (folder / f"{side}.spm").open("wb") as file:
            sentencepiece.SentencePieceTrainer.train(
                sentence_iterator=iter(lines), model_writer=file, vocab_size=60, minloglevel=2, hard_vocab_limit=False
            )
    processor = sentencepiece.SentencePieceProcessor(model_file=str(folder / "source.spm"))
    pieces = [processor.id_to_piece(k) for k in range(processor.get_piece_size())]
    pieces = ["</s>", "<unk>", *(p for p in pieces if p not in ("<s>", "</s>", "<unk>")), ">>cmn_Hans<<", "<pad>"]
    (folder / "vocab.json").write_text(json.dumps({piece: k for k, piece in enumerate(pieces)}))
    tokenizer = MarianTokenizer(
        source_spm=str(folder / "source.spm"), target_spm=str(folder / "target.spm"), vocab=str(folder / "vocab.json"),
        source_lang="en", target_lang="zh", model_max_length=64,
    )  # fmt: skip
    pad = len(pieces) - 1
    config = MarianConfig(
        vocab_size=len(pieces), d_model=16, encoder_layers=1, decoder_layers=1, encoder_attention_heads=2,
        decoder_attention_heads=2, encoder_ffn_dim=16, decoder_ffn_dim=16, max_position_embeddings=64, init_std=1.0,
        pad_token_id=pad, decoder_start_token_id=pad, eos_token_id=0, forced_eos_token_id=0, bos_token_id=None,
    )  # fmt: skip
    MarianMTModel(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder
