"""Tiny random models of the families: width 64, two layers, a vocabulary of 96 tokens."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import transformers as hf

VOCABULARY = 96

LANGUAGE, CLASSES, PAIRS = "causal-lm", "sequence-classification", "seq2seq-lm"


@dataclass(frozen=True)
class Family:
    """One family, and how its config is made."""

    task: str
    config: Callable[[], Any]
    refused: str = ""
    """What the reason says where the family cannot be searched."""


TOKENS = {"vocab_size": VOCABULARY, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
WIDE = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4}
GROUPED = {**WIDE, "num_key_value_heads": 2, "max_position_embeddings": 64}
N = {"n_embd": 64, "n_layer": 2, "n_head": 4, "n_positions": 64}
T5 = {
    "vocab_size": VOCABULARY,
    "d_model": 64,
    "d_kv": 16,
    "d_ff": 128,
    "num_layers": 2,
    "num_heads": 4,
    "pad_token_id": 0,
    "eos_token_id": 2,
    "decoder_start_token_id": 0,
}
BART = {
    **TOKENS,
    "d_model": 64,
    "encoder_layers": 2,
    "decoder_layers": 2,
    "encoder_attention_heads": 4,
    "decoder_attention_heads": 4,
    "encoder_ffn_dim": 128,
    "decoder_ffn_dim": 128,
    "max_position_embeddings": 64,
    "decoder_start_token_id": 2,
    "forced_eos_token_id": None,
}
BERT = {**WIDE, "vocab_size": VOCABULARY, "max_position_embeddings": 66, "pad_token_id": 0}
EXPERTS = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 64}


def _of(kind: str, *parts: Mapping[str, Any], **others: Any) -> Callable[[], Any]:
    def make() -> Any:
        values: dict[str, Any] = {}
        for part in parts:
            values |= part
        return getattr(hf, kind)(**values | others)

    return make


FAMILIES: dict[str, Family] = {
    "llama": Family(LANGUAGE, _of("LlamaConfig", TOKENS, GROUPED)),
    "mistral": Family(LANGUAGE, _of("MistralConfig", TOKENS, GROUPED)),
    "mixtral": Family(LANGUAGE, _of("MixtralConfig", TOKENS, GROUPED, num_local_experts=4)),
    "qwen2": Family(LANGUAGE, _of("Qwen2Config", TOKENS, GROUPED)),
    "qwen3": Family(LANGUAGE, _of("Qwen3Config", TOKENS, GROUPED, head_dim=16)),
    "qwen3-moe": Family(LANGUAGE, _of("Qwen3MoeConfig", TOKENS, GROUPED, EXPERTS, head_dim=16)),
    "gemma": Family(LANGUAGE, _of("GemmaConfig", TOKENS, GROUPED, head_dim=16)),
    "gemma2": Family(LANGUAGE, _of("Gemma2Config", TOKENS, GROUPED, head_dim=16)),
    "gemma3": Family(LANGUAGE, _of("Gemma3TextConfig", TOKENS, GROUPED, head_dim=16, sliding_window=16)),
    "phi": Family(LANGUAGE, _of("PhiConfig", TOKENS, WIDE, max_position_embeddings=64)),
    "phi3": Family(LANGUAGE, _of("Phi3Config", TOKENS, GROUPED, original_max_position_embeddings=64)),
    "opt": Family(
        LANGUAGE,
        _of("OPTConfig", TOKENS, WIDE, ffn_dim=128, word_embed_proj_dim=32, max_position_embeddings=64),
    ),
    "bloom": Family(LANGUAGE, _of("BloomConfig", TOKENS, hidden_size=64, n_layer=2, n_head=4)),
    "falcon": Family(LANGUAGE, _of("FalconConfig", TOKENS, WIDE)),
    "gpt2": Family(LANGUAGE, _of("GPT2Config", TOKENS, N)),
    "gptj": Family(LANGUAGE, _of("GPTJConfig", TOKENS, N, rotary_dim=8)),
    "gpt-neox": Family(LANGUAGE, _of("GPTNeoXConfig", TOKENS, WIDE, max_position_embeddings=64)),
    "gpt-neo": Family(
        LANGUAGE,
        _of(
            "GPTNeoConfig",
            TOKENS,
            hidden_size=64,
            num_layers=2,
            num_heads=4,
            attention_types=[[["global", "local"], 1]],
            max_position_embeddings=64,
        ),
    ),
    "gpt-oss": Family(
        LANGUAGE,
        _of("GptOssConfig", TOKENS, GROUPED, num_local_experts=4, num_experts_per_tok=2, head_dim=16),
    ),
    "llama4": Family(
        LANGUAGE,
        _of(
            "Llama4TextConfig",
            TOKENS,
            GROUPED,
            intermediate_size_mlp=128,
            num_local_experts=2,
            head_dim=16,
            attention_chunk_size=32,
        ),
    ),
    "deepseek-v3": Family(
        LANGUAGE,
        _of(
            "DeepseekV3Config",
            TOKENS,
            WIDE,
            num_key_value_heads=4,
            moe_intermediate_size=64,
            n_routed_experts=4,
            num_experts_per_tok=2,
            n_group=1,
            topk_group=1,
            first_k_dense_replace=1,
            kv_lora_rank=16,
            q_lora_rank=16,
            qk_rope_head_dim=8,
            qk_nope_head_dim=8,
            v_head_dim=16,
            max_position_embeddings=64,
        ),
    ),
    "olmo2": Family(LANGUAGE, _of("Olmo2Config", TOKENS, GROUPED)),
    "stablelm": Family(LANGUAGE, _of("StableLmConfig", TOKENS, GROUPED)),
    "starcoder2": Family(LANGUAGE, _of("Starcoder2Config", TOKENS, GROUPED)),
    "cohere": Family(LANGUAGE, _of("CohereConfig", TOKENS, GROUPED)),
    "granite": Family(LANGUAGE, _of("GraniteConfig", TOKENS, GROUPED)),
    "smollm3": Family(LANGUAGE, _of("SmolLM3Config", TOKENS, GROUPED)),
    "mamba": Family(LANGUAGE, _of("MambaConfig", TOKENS, hidden_size=64, state_size=8, num_hidden_layers=2)),
    "mamba2": Family(
        LANGUAGE,
        _of(
            "Mamba2Config",
            TOKENS,
            hidden_size=64,
            state_size=16,
            num_hidden_layers=2,
            num_heads=8,
            head_dim=16,
            n_groups=2,
            expand=2,
        ),
    ),
    "falcon-mamba": Family(
        LANGUAGE, _of("FalconMambaConfig", TOKENS, hidden_size=64, state_size=8, num_hidden_layers=2)
    ),
    "jamba": Family(
        LANGUAGE,
        _of(
            "JambaConfig",
            TOKENS,
            GROUPED,
            num_experts=2,
            num_experts_per_tok=1,
            attn_layer_period=2,
            attn_layer_offset=1,
            expert_layer_period=2,
            mamba_d_state=8,
            use_mamba_kernels=False,
        ),
    ),
    "rwkv": Family(
        LANGUAGE, _of("RwkvConfig", TOKENS, hidden_size=64, num_hidden_layers=2, context_length=64)
    ),
    "bert": Family(CLASSES, _of("BertConfig", BERT)),
    "distilbert": Family(
        CLASSES,
        _of("DistilBertConfig", vocab_size=VOCABULARY, dim=64, hidden_dim=128, n_layers=2, n_heads=4),
    ),
    "roberta": Family(CLASSES, _of("RobertaConfig", BERT, pad_token_id=1)),
    "xlm-r": Family(CLASSES, _of("XLMRobertaConfig", BERT, pad_token_id=1)),
    "mpnet": Family(CLASSES, _of("MPNetConfig", BERT, pad_token_id=1)),
    "electra": Family(CLASSES, _of("ElectraConfig", BERT, embedding_size=32)),
    "albert": Family(CLASSES, _of("AlbertConfig", BERT, embedding_size=32)),
    "deberta": Family(
        CLASSES,
        _of("DebertaConfig", BERT, relative_attention=True, pos_att_type=["p2c", "c2p"], type_vocab_size=0),
    ),
    "deberta-v2": Family(
        CLASSES,
        _of(
            "DebertaV2Config",
            BERT,
            relative_attention=True,
            pos_att_type=["p2c", "c2p"],
            position_buckets=16,
            norm_rel_ebd="layer_norm",
            share_att_key=True,
            position_biased_input=False,
            type_vocab_size=0,
        ),
    ),
    "modernbert": Family(CLASSES, _of("ModernBertConfig", TOKENS, BERT, cls_token_id=1, sep_token_id=2)),
    "xlnet": Family(
        CLASSES,
        _of(
            "XLNetConfig", vocab_size=VOCABULARY, d_model=64, n_layer=2, n_head=4, d_inner=128, pad_token_id=0
        ),
    ),
    "t5": Family(PAIRS, _of("T5Config", T5)),
    "t5-uneven": Family(PAIRS, _of("T5Config", T5, num_decoder_layers=3)),
    "longt5": Family(PAIRS, _of("LongT5Config", T5, local_radius=4)),
    "switch": Family(
        PAIRS,
        _of(
            "SwitchTransformersConfig",
            T5,
            num_decoder_layers=2,
            num_sparse_encoder_layers=1,
            num_sparse_decoder_layers=1,
            num_experts=2,
        ),
    ),
    "bart": Family(PAIRS, _of("BartConfig", BART)),
    "mbart": Family(PAIRS, _of("MBartConfig", BART)),
    "pegasus": Family(PAIRS, _of("PegasusConfig", BART, scale_embedding=True)),
    "marian": Family(PAIRS, _of("MarianConfig", BART, decoder_vocab_size=VOCABULARY)),
    "prophetnet": Family(
        PAIRS,
        _of(
            "ProphetNetConfig",
            TOKENS,
            hidden_size=64,
            encoder_ffn_dim=128,
            num_encoder_layers=2,
            num_encoder_attention_heads=4,
            decoder_ffn_dim=128,
            num_decoder_layers=2,
            num_decoder_attention_heads=4,
            max_position_embeddings=64,
            decoder_start_token_id=0,
        ),
    ),
    "led": Family(
        PAIRS,
        _of(
            "LEDConfig",
            {name: value for name, value in BART.items() if name != "max_position_embeddings"},
            attention_window=[8, 8],
            max_encoder_position_embeddings=64,
            max_decoder_position_embeddings=64,
        ),
    ),
}
