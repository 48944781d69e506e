"""torchvision's ``vit_b_16`` and its like, all supervised."""

from ablate.weights.families.base import CLASS_TOKEN, FINAL_NORM, HEAD, Family, drop, keep

LAYER = r"encoder\.layers\.encoder_layer_(\d+)\."

FAMILY = Family(
    name="torchvision",
    initialisation="supervised",
    recognises=lambda checkpoint: {"conv_proj.weight", "encoder.pos_embedding"} <= set(checkpoint.tensors),
    rules=(
        keep(r"conv_proj\.(weight|bias)", r"patch_embed.\1"),
        keep(r"encoder\.pos_embedding", "pos_embed"),
        keep(rf"{LAYER}ln_([12])\.(weight|bias)", r"blocks.\1.norm\2.\3"),
        keep(rf"{LAYER}self_attention\.in_proj_(weight|bias)", r"blocks.\1.attn.qkv.\2"),
        keep(rf"{LAYER}self_attention\.out_proj\.(weight|bias)", r"blocks.\1.attn.proj.\2"),
        keep(rf"{LAYER}mlp\.0\.(weight|bias)", r"blocks.\1.mlp.fc1.\2"),
        keep(rf"{LAYER}mlp\.3\.(weight|bias)", r"blocks.\1.mlp.fc2.\2"),
        # as older versions of torchvision wrote them
        keep(rf"{LAYER}mlp\.linear_([12])\.(weight|bias)", r"blocks.\1.mlp.fc\2.\3"),
        drop(r"class_token", CLASS_TOKEN),
        drop(r"encoder\.ln\.(weight|bias)", FINAL_NORM),
        drop(r"heads\..*", HEAD),
    ),
)
