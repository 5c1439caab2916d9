"""Critics: an ensemble that says what return (state, action, discount) leads to.

`NCriticsTwoHot` gives a distribution over bins of returns, `NCritics` a number.
"""

from collections.abc import Sequence
from typing import Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gemma_metamon.errors import ConfigError
from gemma_metamon.nets.checks import DROPOUT, FLAG, LAYERS, WIDTH, check, number, one_of, whole
from gemma_metamon.nets.heads.ensemble import ActionEnsemble, StateEnsemble, with_discount
from gemma_metamon.nets.heads.returns import RETURN, LabelType, ReturnBins, expected_return, hl_gauss, two_hot
from gemma_metamon.nets.layers import ACTIVATION, symlog

AmagoVersion = Literal["3.3", "3.1"]

_NETWORK_RULES = {
    "num_critics": whole(1, 1000),
    "d_hidden": WIDTH,
    "n_layers": LAYERS,
    "dropout_p": DROPOUT,
    "activation": ACTIVATION,
}
_BIN_RULES = {
    "min_return": RETURN.or_none(),
    "max_return": RETURN.or_none(),
    "use_symlog": FLAG,
    "label_type": one_of(*get_args(LabelType)),
    "sigma": number(0.01, 1000),
}


def gamma_features(gammas: Sequence[float] | Tensor) -> Tensor:
    """How a critic is told its discount: symlog(1 / (1 - gamma)), (G,)."""
    horizons = 1.0 / (1.0 - torch.as_tensor(gammas, dtype=torch.float32)).clamp(1e-6, 1.0)
    return symlog(horizons)


class NCriticsTwoHot(nn.Module):
    """Critics that classify the return into bins; the label of a return is `two_hot` or `hl_gauss`.

    Shapes: B battles, T timesteps, K actions tried per state, C critics, G discounts, A actions.

    Args:
        state_dim: width of the state.
        action_dim: A.
        gammas: the discounts.
        discrete: accepted because upstream has it; both values mean the same network.
        num_critics: C.
        d_hidden: width of the hidden layers.
        n_layers: how many hidden layers.
        dropout_p: dropout after each.
        activation: leaky_relu, relu or gelu.
        min_return: the lowest bin, in multiplied reward; -100,000 when not given.
        max_return: the highest bin; 100,000 when not given.
        output_bins: how many bins.
        use_symlog: bins even in symlog(return) rather than in the return.
        label_type: twohot or hlgauss.
        sigma: width of hlgauss labels, in bins.
        init_value: a return that untrained critics should lean towards; None leaves them as they are.
        amago_version: "3.1" clips the bins' probabilities to [1e-6, 0.999] and takes a bound of 0 for one not given.

    Raises:
        ConfigError: a value that breaks its rule; bounds that are not in order, or too close for the bins; what AMAGO
            3.1 lacks, with its amago_version.
    """

    bin_values: Tensor
    gamma_feature: Tensor

    def __init__(
        self,
        state_dim: int,
        action_dim: int,
        gammas: Sequence[float] | Tensor,
        discrete: bool,
        num_critics: int,
        d_hidden: int = 256,
        n_layers: int = 2,
        dropout_p: float = 0.0,
        activation: str = "leaky_relu",
        min_return: float | None = None,
        max_return: float | None = None,
        output_bins: int = 128,
        use_symlog: bool = True,
        label_type: LabelType = "twohot",
        sigma: float = 0.75,
        init_value: float | None = None,
        *,
        amago_version: AmagoVersion = "3.3",
    ) -> None:
        super().__init__()
        check("NCriticsTwoHot", locals(), _NETWORK_RULES | _BIN_RULES)
        if amago_version == "3.1":
            if label_type != "twohot" or init_value is not None:
                raise ConfigError(
                    f'label_type {label_type!r} and init_value {init_value}: with amago_version "3.1" they must be '
                    "'twohot' and None, for AMAGO 3.1 has no other"
                )
            min_return, max_return = min_return or None, max_return or None
        self.bins = ReturnBins(
            min_return=-100_000.0 if min_return is None else min_return,
            max_return=100_000.0 if max_return is None else max_return,
            output_bins=output_bins,
            use_symlog=use_symlog,
        )
        self.num_critics = num_critics
        self.label_type = label_type
        self.sigma = sigma
        self.amago_version = amago_version
        # constants of the configuration, not of the weights: upstream's checkpoints do not hold them
        self.register_buffer("gamma_feature", gamma_features(gammas), persistent=False)
        self.register_buffer("bin_values", self.bins.values(), persistent=False)
        self.net = ActionEnsemble(
            num_critics, state_dim, action_dim, d_hidden, n_layers, output_bins, activation, dropout_p
        )
        if init_value is not None:
            check("NCriticsTwoHot", {"init_value": init_value}, {"init_value": self.bins.within()})
            self._lean_towards(init_value)

    def __len__(self) -> int:
        return self.num_critics

    def forward(self, state: Tensor, action: Tensor) -> Tensor:
        """States (B, T, state_dim), actions (K, B, T, G, A) -> log-probabilities (K, B, T, C, G, output_bins)."""
        return self._log_probs(self.net(state, self.gamma_feature, action.clamp(-0.999, 0.999)))

    def mean_value(self, state: Tensor, action: Tensor, weights: Tensor, critics: Tensor | None = None) -> Tensor:
        """The mean return over K actions; what has no weight is not computed.

        Args:
            state: (B, T, state_dim).
            action: (K, B, T, G, A).
            weights: (K, B, T, G), each action's share of the mean; where it is 0 the action is not looked at, and the
                weight has no gradient.
            critics: (B, T, n, G, 1) long, indices of the critics to evaluate; all C when not given.

        Returns:
            (B, T, C, G, 1), or (B, T, n, G, 1) of the critics given.
        """
        K, B, T, G, A = action.shape
        C, N = self.num_critics, B * T * G
        queries = self._select_queries(weights, critics)  # (C, Q)
        share, each = self.net.state_share(state), torch.arange(C, device=state.device)[:, None]  # (C, B * T, H)
        inputs = with_discount(self.gamma_feature, action.clamp(-0.999, 0.999)).reshape(K * N, 1 + A)
        values = [
            self.values(self._log_probs(self.net.evaluate(share[each, part % N // G], inputs[part])))[..., 0]
            for part in torch.split(queries, N, dim=1)  # as many at a time as one action has in all states
        ]
        value = torch.zeros(C, K * N, device=state.device).scatter(1, queries, torch.cat(values, dim=1))
        value = (value.view(C, K, B, T, G, 1) * weights[..., None]).sum(1).permute(1, 2, 0, 3, 4)  # (B, T, C, G, 1)
        return value if critics is None else value.take_along_dim(critics, dim=2)

    def _select_queries(self, weights: Tensor, critics: Tensor | None) -> Tensor:
        """What each critic is evaluated on, (C, Q): indices of one action in one state under one discount.

        Of K * B * T * G such queries, those with a weight above 0 and, where `critics` is given, of a critic in it. A
        critic with fewer than Q of them is evaluated on others besides, which do not count.
        """
        K, N, C = len(weights), weights[0].numel(), self.num_critics
        needed = weights.reshape(1, K, N) != 0
        if critics is not None:
            needed = needed & F.one_hot(critics[..., 0], C).amax(2).bool().reshape(N, C).T[:, None]  # (C, K, N)
        needed = needed.flatten(1).int()
        most = int(needed.sum(1).max())  # the one time that a GPU is waited for
        return needed.argsort(dim=1, descending=True, stable=True)[:, :most].expand(C, -1)

    def _log_probs(self, outputs: Tensor) -> Tensor:
        outputs = outputs.float()
        if self.amago_version == "3.3":
            return F.log_softmax(outputs, dim=-1)
        clipped = outputs.softmax(-1).clamp(1e-6, 0.999)
        # dividing by a constant sum and then by the sum of the result: only the second passes a gradient
        clipped = clipped / clipped.sum(-1, keepdim=True).detach()
        log_probs: Tensor = (clipped / clipped.sum(-1, keepdim=True)).log()
        return log_probs

    def values(self, log_probs: Tensor) -> Tensor:
        """Log-probabilities (..., output_bins) -> returns (..., 1), in multiplied reward."""
        return expected_return(log_probs, self.bins, self.bin_values)

    def labels(self, returns: Tensor) -> Tensor:
        """Returns (..., 1) -> the distribution (..., output_bins) that the critics should give."""
        if self.label_type == "twohot":
            return two_hot(returns, self.bins, self.bin_values)
        return hl_gauss(returns, self.bins, self.bin_values, self.sigma)

    @torch.no_grad()
    def _lean_towards(self, init_value: float) -> None:
        center = self.bins.squash(torch.tensor(float(init_value)))
        width = self.bin_values[1] - self.bin_values[0]
        bell = -(self.bin_values - center).square() / (2 * (4 * width) ** 2)
        self.net.output_layer.bias.copy_(bell.expand_as(self.net.output_layer.bias))


class NCritics(nn.Module):
    """Critics that regress the return, in the scale that PopArt gives it: from a state, a value of every action.

    Shapes: B battles, T timesteps, K actions tried per state, C critics, G discounts, A actions.

    Args:
        state_dim: width of the state.
        action_dim: A.
        discrete: must be True.
        gammas: the discounts.
        num_critics: C.
        d_hidden: width of the hidden layers.
        n_layers: how many hidden layers.
        dropout_p: dropout after each.
        activation: leaky_relu, relu or gelu.

    Raises:
        ConfigError: a value that breaks its rule.
    """

    def __init__(
        self,
        state_dim: int,
        action_dim: int,
        discrete: bool,
        gammas: Sequence[float] | Tensor,
        num_critics: int,
        d_hidden: int = 256,
        n_layers: int = 2,
        dropout_p: float = 0.0,
        activation: str = "leaky_relu",
    ) -> None:
        super().__init__()
        if not discrete:
            raise ConfigError("critics value a fixed list of actions: discrete must be True")
        check("NCritics", locals(), _NETWORK_RULES)
        self.num_critics = num_critics
        self.num_gammas = len(gammas)
        self.action_dim = action_dim
        self.net = StateEnsemble(
            num_critics, state_dim, d_hidden, n_layers, self.num_gammas * action_dim, activation, dropout_p
        )

    def __len__(self) -> int:
        return self.num_critics

    def forward(self, state: Tensor, action: Tensor) -> Tensor:
        """States (B, T, state_dim), actions (K, B, T, G, A) -> values (K, B, T, C, G, 1).

        An action may also be probabilities: the value is then the mean under them.
        """
        outputs = self.net(state).float()
        outputs = outputs.view(*outputs.shape[:-1], self.num_gammas, self.action_dim)  # (B, T, C, G, A)
        values: Tensor = (outputs * action[:, :, :, None]).sum(-1, keepdim=True)
        return values
