"""The transformer that reads a battle: one vector per timestep in, one per timestep out, each from the past alone.

Layer for layer AMAGO's `TformerTrajEncoder`, with the same parameter names, on torch's own attention.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gemma_metamon.errors import ConfigError
from gemma_metamon.nets.checks import DROPOUT, FLAG, HEADS, LAYERS, SEQUENCE, WIDTH, Rule, check, one_of, whole
from gemma_metamon.nets.layers import ACTIVATION, NORMALIZATION, Normalization, activation_function
from gemma_metamon.nets.trajectory.kv_cache import CacheSlots, KVCache
from gemma_metamon.nets.trajectory.positions import build_position_embedding, rotate


class SigmaReparam(nn.Linear):
    """A linear layer whose weight is gamma * W / sigma(W), sigma being W's largest singular value (arXiv 2303.06296).

    sigma is u . W v with the buffers u (d_out) and v (d_in), which each forward in training mode first moves one step
    of power iteration; they are constants for the gradient.

    Args:
        d_in: width of the input.
        d_out: width of the output.
        bias: with a bias (not reparametrised).
        fast_init: torch's usual weights and random u and v, in place of a narrow normal and its singular vectors; for
            layers that are about to be loaded.
    """

    u: Tensor
    v: Tensor

    def __init__(self, d_in: int, d_out: int, bias: bool = True, fast_init: bool = False) -> None:
        super().__init__(d_in, d_out, bias=bias)
        self.gamma = nn.Parameter(torch.ones(1))
        u, v = torch.randn(d_out), torch.randn(d_in)
        if not fast_init and not self.weight.is_meta:
            nn.init.trunc_normal_(self.weight, std=0.02)
            # a randomised decomposition comes within about one percent of the largest singular value in a fraction of
            # the time of a whole one; training refines it
            left, _, right = torch.svd_lowrank(self.weight.detach(), q=min(8, d_in, d_out), niter=6)
            u, v = left[:, 0].clone(), right[:, 0].clone()
        self.register_buffer("u", F.normalize(u, dim=0))
        self.register_buffer("v", F.normalize(v, dim=0))
        self._known_scale: tuple[object, Tensor] | None = None

    def forward(self, x: Tensor) -> Tensor:
        """(..., d_in) -> (..., d_out); in training mode sigma is brought up to date first."""
        scale = self._move_and_scale() if self.training or torch.is_grad_enabled() else self._settled_scale()
        # the scaled weight itself is never made: it would cost as much memory as all the parameters
        out = F.linear(x.to(self.weight.dtype), self.weight).to(x.dtype) * scale.to(x.dtype)
        return out if self.bias is None else out + self.bias

    def _move_and_scale(self) -> Tensor:
        """The weight's factor gamma / sigma, (1,), after a step of power iteration in training."""
        with torch.autocast(self.weight.device.type, enabled=False):
            u, v = self.iterate() if self.training else (self.u, self.v)
            scale: Tensor = self.gamma / (u @ self.weight.to(u.dtype) @ v)
            return scale

    @torch.no_grad()
    def iterate(self) -> tuple[Tensor, Tensor]:
        """One step of power iteration: u and v come nearer to the weight's first singular vectors."""
        weight = self.weight.to(self.u.dtype)
        u = F.normalize(weight @ self.v, dim=0)
        v = F.normalize(weight.T @ u, dim=0)
        self.u.copy_(u)
        self.v.copy_(v)
        return u, v

    def _settled_scale(self) -> Tensor:
        """The same when acting, where it stays: a step then goes through the weights once, not twice."""
        made_of = tuple((t._version, t.data_ptr()) for t in (self.weight, self.gamma, self.u, self.v))
        if self._known_scale is None or self._known_scale[0] != made_of:
            self._known_scale = made_of, self._move_and_scale()
        return self._known_scale[1]


class AttentionLayer(nn.Module):
    """Causal self-attention, each head's output scaled by a learned factor.

    Args:
        d_model: D, width of the stream.
        n_heads: H.
        dropout_attn: dropout of the attention weights.
        dropout_qkv: dropout of queries, keys and values.
        head_scaling: whether the heads' factors learn; otherwise they stay 1.
        linear: the class of its linear layers.
    """

    def __init__(
        self,
        d_model: int,
        n_heads: int,
        dropout_attn: float,
        dropout_qkv: float,
        head_scaling: bool,
        linear: type[nn.Linear],
    ) -> None:
        super().__init__()
        self.n_heads = n_heads
        self.dropout_attn = dropout_attn
        # with head_scaling off it stays a key of the state_dict, is 1 and does not learn
        self.head_scaler = nn.Parameter(torch.ones(1, 1, n_heads, 1), requires_grad=head_scaling)
        self.qkv_projection = linear(d_model, 3 * d_model, bias=False)
        self.dropout_qkv = nn.Dropout(dropout_qkv)
        self.out_projection = linear(d_model, d_model)

    def forward(
        self,
        x: Tensor,
        rotation: tuple[Tensor, Tensor] | None,
        memory: tuple[KVCache, int, CacheSlots] | None,
    ) -> Tensor:
        """The stream (B, T, D) -> what is added to it, (B, T, D).

        Args:
            x: the stream; with a memory T is 1.
            rotation: of queries and keys, see RotaryPosEmb; None where positions are added to the input.
            memory: the cache, this layer's index in it, and where the timestep goes; None in training.
        """
        B, T, D = x.shape
        # of the 3 * D channels the head runs fastest: (three, width, heads)
        qkv = self.dropout_qkv(self.qkv_projection(x)).view(B, T, 3, -1, self.n_heads)
        queries, keys, values = qkv.permute(2, 0, 4, 1, 3).contiguous().unbind(0)  # (B, H, T, D / H) each
        if rotation is not None:
            queries, keys = rotate(queries, rotation), rotate(keys, rotation)
        if memory is None:
            dropout = self.dropout_attn if self.training else 0.0
            out = F.scaled_dot_product_attention(queries, keys, values, dropout_p=dropout, is_causal=True)
        else:
            cache, layer, at = memory
            keys, values = cache.write_and_read(layer, at, keys, values)
            out = F.scaled_dot_product_attention(queries, keys, values, attn_mask=at.visible)
        out = self.head_scaler * out.transpose(1, 2)  # (B, T, H, D / H)
        projected: Tensor = self.out_projection(out.reshape(B, T, D))
        return projected


class TransformerLayer(nn.Module):
    """Attention and a two-layer MLP, each normalised before and, with normformer_norms, inside as well.

    Args:
        attention_layer: the attention.
        d_model: D, width of the stream.
        d_ff: width inside the MLP.
        dropout_ff: dropout after the MLP.
        activation: leaky_relu, relu or gelu.
        norm: layer, rmsnorm, unitball, unitball-detach or none.
        normformer_norms: two more normalisations (arXiv 2110.09456).
        linear: the class of its linear layers.
    """

    def __init__(
        self,
        attention_layer: AttentionLayer,
        d_model: int,
        d_ff: int,
        dropout_ff: float,
        activation: str,
        norm: str,
        normformer_norms: bool,
        linear: type[nn.Linear],
    ) -> None:
        super().__init__()
        self.attention_layer = attention_layer
        self.ff1 = linear(d_model, d_ff)
        self.ff2 = linear(d_ff, d_model)
        self.norm1 = Normalization(norm, d_model)
        self.norm2 = Normalization(norm, d_model) if normformer_norms else nn.Identity()
        self.norm3 = Normalization(norm, d_model)
        self.norm4 = Normalization(norm, d_ff) if normformer_norms else nn.Identity()
        self.dropout_ff = nn.Dropout(dropout_ff)
        self.activation = activation_function(activation)

    def forward(
        self,
        x: Tensor,
        rotation: tuple[Tensor, Tensor] | None,
        memory: tuple[KVCache, int, CacheSlots] | None,
    ) -> Tensor:
        """The stream (B, T, D) -> the stream (B, T, D); parameters as of AttentionLayer."""
        x = x + self.norm2(self.attention_layer(self.norm1(x), rotation, memory))
        hidden = self.norm4(self.activation(self.ff1(self.norm3(x))))
        out: Tensor = x + self.dropout_ff(self.ff2(hidden))
        return out


class Transformer(nn.Module):
    """Input projection, positions, layers, a final normalisation.

    Args:
        inp_dim: width of the input.
        d_model: width of the stream.
        layers: in their order.
        dropout_emb: dropout of the embedded input.
        norm: the final one; layer, rmsnorm, unitball, unitball-detach or none.
        position_embedding: see `build_position_embedding`.
    """

    def __init__(
        self,
        inp_dim: int,
        d_model: int,
        layers: list[TransformerLayer],
        dropout_emb: float,
        norm: str,
        position_embedding: nn.Module,
    ) -> None:
        super().__init__()
        self.position_embedding = position_embedding
        self.inp = nn.Linear(inp_dim, d_model)
        self.dropout = nn.Dropout(dropout_emb)
        self.layers = nn.ModuleList(layers)
        self.norm = Normalization(norm, d_model)

    def forward(
        self, seq: Tensor, time_idxs: Tensor, cache: KVCache | None = None, rows: Tensor | None = None
    ) -> Tensor:
        """(B, T, inp_dim) and (B, T, 1) -> (B, T, d_model); with a cache T is 1 and B the number of rows."""
        x = self.inp(seq)
        positions = self.position_embedding(time_idxs.squeeze(-1))
        rotation = positions if isinstance(positions, tuple) else None
        x = self.dropout(x if rotation is not None else x + positions)
        at = None if cache is None or rows is None else cache.next_slots(rows)
        for index, layer in enumerate(self.layers):
            x = layer(x, rotation, None if cache is None or at is None else (cache, index, at))
        if cache is not None and rows is not None:
            cache.advance(rows)
        out: Tensor = self.norm(x)
        return out


class TformerTrajEncoder(nn.Module):
    """Pre-norm causal transformer over the timesteps of a battle.

    In training and when whole battles are read: `forward`. In play: `init_cache`, then one `step` per decision, which
    gives what `forward` gives at the same timestep (as long as the battle fits max_seq_len; beyond, see KVCache).

    Args:
        tstep_dim: width of a timestep.
        max_seq_len: how many timesteps a decision can look at when playing. `forward` takes any length.
        d_model: width of the stream and of the output.
        n_heads: attention heads; must divide d_model.
        d_ff: width inside each MLP.
        n_layers: how many layers.
        dropout_ff: dropout after each MLP.
        dropout_emb: dropout of the embedded input.
        dropout_attn: dropout of the attention weights.
        dropout_qkv: dropout of queries, keys and values.
        activation: leaky_relu, relu or gelu.
        norm: layer, rmsnorm, unitball, unitball-detach or none.
        pos_emb: fixed (sinusoidal), learnable (needs max_time_idx) or rope.
        sigma_reparam: SigmaReparam in place of plain linear layers.
        normformer_norms: two more normalisations per layer.
        head_scaling: a learned factor per head.
        attention_type: accepted because upstream's configs bind it, and without effect: None, or one of AMAGO's
            classes that attend to the whole past. Attention is torch's scaled_dot_product_attention, which picks the
            fastest kernel itself.
        max_time_idx: number of learnable positions.

    Raises:
        ConfigError: a value that breaks its rule; heads that do not divide d_model; a pos_emb that does not go with the
            rest.
    """

    def __init__(
        self,
        tstep_dim: int,
        max_seq_len: int,
        d_model: int = 256,
        n_heads: int = 8,
        d_ff: int = 1024,
        n_layers: int = 3,
        dropout_ff: float = 0.05,
        dropout_emb: float = 0.05,
        dropout_attn: float = 0.0,
        dropout_qkv: float = 0.0,
        activation: str = "leaky_relu",
        norm: str = "layer",
        pos_emb: str = "fixed",
        sigma_reparam: bool = True,
        normformer_norms: bool = True,
        head_scaling: bool = True,
        attention_type: Any = None,
        *,
        max_time_idx: int | None = None,
    ) -> None:
        super().__init__()
        check("TformerTrajEncoder", locals(), _RULES)
        if d_model % n_heads:
            raise ConfigError(f"TformerTrajEncoder.n_heads ({n_heads}) must divide d_model ({d_model})")
        self.tstep_dim = tstep_dim
        self.max_seq_len = max_seq_len
        self.n_heads = n_heads
        self.n_layers = n_layers
        self.emb_dim = d_model
        linear = SigmaReparam if sigma_reparam else nn.Linear
        layers = [
            TransformerLayer(
                AttentionLayer(d_model, n_heads, dropout_attn, dropout_qkv, head_scaling, linear),
                d_model=d_model,
                d_ff=d_ff,
                dropout_ff=dropout_ff,
                activation=activation,
                norm=norm,
                normformer_norms=normformer_norms,
                linear=linear,
            )
            for _ in range(n_layers)
        ]
        positions = build_position_embedding(pos_emb, d_model, d_model // n_heads, max_time_idx)
        self.tformer = Transformer(tstep_dim, d_model, layers, dropout_emb, norm, positions)

    def forward(self, seq: Tensor, time_idxs: Tensor) -> Tensor:
        """Every timestep from its past: (B, T, tstep_dim) and (B, T, 1) long -> (B, T, emb_dim).

        Padding on the right needs no mask: nothing real looks at it.
        """
        out: Tensor = self.tformer(seq, time_idxs)
        return out

    def init_cache(
        self, n_rows: int, device: torch.device | str | None = None, dtype: torch.dtype | None = None
    ) -> KVCache:
        """An empty memory for `n_rows` battles, by default where the parameters are and of their type."""
        weight = self.tformer.inp.weight
        return KVCache(
            self.n_layers,
            n_rows,
            self.n_heads,
            self.max_seq_len,
            self.emb_dim // self.n_heads,
            device=weight.device if device is None else device,
            dtype=weight.dtype if dtype is None else dtype,
        )

    @torch.no_grad()
    def step(self, tstep: Tensor, time_idxs: Tensor, cache: KVCache, rows: Tensor) -> Tensor:
        """One timestep of some battles; only theirs advance.

        Shapes: tstep (n, tstep_dim), time_idxs (n, 1), rows (n,) long and all different -> (n, emb_dim).
        """
        if self.training:
            raise RuntimeError("step() plays, it does not train: call .eval() on the agent first")
        out: Tensor = self.tformer(tstep[:, None], time_idxs[:, None], cache, rows)  # (n, 1, emb_dim)
        return out[:, 0]


_WHOLE_PAST = ("VanillaAttention", "FlashAttention", "VanillaFlexAttention")
_RULES = {
    "max_seq_len": SEQUENCE,
    "d_model": WIDTH,
    "n_heads": HEADS,
    "d_ff": WIDTH,
    "n_layers": LAYERS,
    "dropout_ff": DROPOUT,
    "dropout_emb": DROPOUT,
    "dropout_attn": DROPOUT,
    "dropout_qkv": DROPOUT,
    "activation": ACTIVATION,
    "norm": NORMALIZATION,
    "pos_emb": one_of("fixed", "learnable", "rope"),
    "sigma_reparam": FLAG,
    "normformer_norms": FLAG,
    "head_scaling": FLAG,
    "attention_type": Rule(
        f"None or one of AMAGO's {', '.join(_WHOLE_PAST)}; @best_attention() is right everywhere",
        lambda kind: kind is None or (isinstance(kind, type) and kind.__name__ in _WHOLE_PAST),
    ),
    "max_time_idx": whole(1, 1_000_000).or_none(),
}
