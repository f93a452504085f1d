"""Recurrent networks: windows of numbers to forecasts, and text to the next character."""

from collections.abc import Sequence

import keras
from keras import layers

from kerastoolkit.layers import GRU, LSTM, Dropout, SimpleRNN
from kerastoolkit.models._arguments import check_rate, check_sizes

_CELLS = {"simple_rnn": SimpleRNN, "lstm": LSTM, "gru": GRU}


def recurrent_forecaster(
    *,
    cell: str,
    window: int,
    features: int,
    horizon: int,
    targets: int = 1,
    units: int = 64,
    depth: int = 1,
    bidirectional: bool = False,
    dropout: float = 0.0,
    quantiles: Sequence[float] = (),
    reset_after: bool = True,
    jit_compile: bool | None = None,
) -> keras.Model:
    """Recurrent forecaster: the window goes through ``depth`` recurrent layers, and one dense layer maps what the last one holds
    after the last step to all horizon steps at once (the direct strategy: Ben Taieb et al. 2012, section 2.3,
    https://arxiv.org/abs/1108.3259).

    Cells: Elman 1990, https://doi.org/10.1207/s15516709cog1402_1; LSTM with a forget gate, Gers et al. 2000,
    https://doi.org/10.1162/089976600300015015, whose bias begins at 1; GRU, Cho et al. 2014, https://arxiv.org/abs/1406.1078.

    Input   features   (batch, window, features) float32, about zero mean and unit variance
    Output  forecast   (batch, horizon, targets) float32; with quantiles (batch, horizon, targets, quantiles)

    Args:
        cell: "simple_rnn", "lstm" or "gru".
        window: past steps that the network sees.
        features: numbers at each step.
        horizon: steps that are forecast.
        targets: numbers that are forecast at each step.
        units: numbers that each recurrent layer holds; with ``bidirectional`` in each direction.
        depth: recurrent layers, one on the other.
        bidirectional: read the window in both directions (Schuster & Paliwal 1997); the window is all past, so this is no leak.
        dropout: rate between layers and before the dense layer, in [0, 1).
        quantiles: levels in (0, 1), ascending; () for a point forecast.
        reset_after: for "gru", apply the reset gate after the matrix product, as CuDNN does; False is the paper's order.
        jit_compile: compile the loops over time with XLA in training: ``kerastoolkit.layers.LSTM``, GRU and SimpleRNN.
    Raises:
        ValueError: an argument is not one of the above.
    """
    _check(
        cell=cell, units=units, depth=depth, dropout=dropout, window=window, features=features, horizon=horizon, targets=targets
    )
    if list(quantiles) != sorted(set(quantiles)) or not all(0 < level < 1 for level in quantiles):
        raise ValueError(f"quantiles must be ascending levels between 0 and 1, got {tuple(quantiles)!r}")
    inputs = x = keras.Input((window, features), name="features")
    for number in range(1, depth + 1):
        kwargs = {"return_sequences": number < depth, "name": f"{cell}_{number}"}
        layer = _recurrent(cell, units, reset_after, jit_compile, **kwargs)
        x = layers.Bidirectional(layer, name=f"both_ways_{number}")(x) if bidirectional else layer(x)
        if dropout:
            x = Dropout(dropout, name=f"dropout_{number}")(x)  # (b, window, units), after the last layer (b, units)
    shape = (horizon, targets, len(quantiles)) if quantiles else (horizon, targets)
    size = horizon * targets * max(1, len(quantiles))
    outputs = layers.Reshape(shape, name="forecast")(layers.Dense(size, name="steps")(x))
    return keras.Model(inputs, outputs, name=f"{cell}_forecaster")


def recurrent_language_model(
    *,
    cell: str,
    vocabulary: int,
    units: int = 512,
    depth: int = 1,
    embedding: int = 64,
    dropout: float = 0.0,
    reset_after: bool = True,
    jit_compile: bool | None = None,
) -> keras.Model:
    """Recurrent language model: Mikolov et al. 2010, https://www.isca-archive.org/interspeech_2010/mikolov10_interspeech.html,
    with the cells of ``recurrent_forecaster`` and, between the layers, the dropout of Zaremba et al. 2014, section 3.1,
    https://arxiv.org/abs/1409.2329.

    Each position's logits follow from the tokens up to that position alone, and the state begins at zero.

    Input   tokens  (batch, any length) int32, 0 .. vocabulary - 1
    Output  logits  (batch, length, vocabulary) float32, unnormalised, of the token that comes next

    Args:
        cell: "simple_rnn", "lstm" or "gru".
        vocabulary: number of tokens.
        units: numbers that each recurrent layer holds.
        depth: recurrent layers, one on the other.
        embedding: numbers that stand for a token.
        dropout: rate after the embedding and after each recurrent layer, in [0, 1).
        reset_after: for "gru", apply the reset gate after the matrix product, as CuDNN does; False is the paper's order.
        jit_compile: compile the loops over time with XLA in training: ``kerastoolkit.layers.LSTM``, GRU and SimpleRNN.
    Raises:
        ValueError: an argument is not one of the above.
    Differs from the paper: tokens are embedded, gated cells are allowed, and the output is not factored into classes.
    """
    _check(cell=cell, units=units, depth=depth, dropout=dropout, vocabulary=vocabulary, embedding=embedding)
    tokens = keras.Input((None,), dtype="int32", name="tokens")
    x = layers.Embedding(vocabulary, embedding, name="embedding")(tokens)  # (b, t, embedding)
    for number in range(1, depth + 1):
        if dropout:
            x = Dropout(dropout, name=f"dropout_{number}")(x)
        layer = _recurrent(cell, units, reset_after, jit_compile, return_sequences=True, name=f"{cell}_{number}")
        x = layer(x)  # (b, t, units)
    if dropout:
        x = Dropout(dropout, name=f"dropout_{depth + 1}")(x)
    return keras.Model(tokens, layers.Dense(vocabulary, name="logits")(x), name=f"{cell}_language_model")


def _recurrent(cell: str, units: int, reset_after: bool, jit_compile: bool | None, **kwargs):
    if cell == "gru":
        kwargs["reset_after"] = reset_after
    return _CELLS[cell](units, jit_compile=jit_compile, **kwargs)


def _check(*, cell, dropout, **sizes):
    if cell not in _CELLS:
        raise ValueError(f"cell must be {', '.join(map(repr, _CELLS))}, got {cell!r}")
    check_rate("dropout", dropout)
    check_sizes(**sizes)
