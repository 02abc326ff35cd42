"""The shapes of the answers, as the OpenAPI description tells them."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, Field

__all__ = ["Example", "Explanation", "Health", "ImageAnswer", "ModelAnswer", "Models", "Prediction", "ProblemAnswer"]


class ProblemAnswer(BaseModel):
    """Problem details (RFC 9457)."""

    type: Annotated[str, Field(examples=["urn:greffon:problem:unreadable-image"])]
    title: Annotated[str, Field(examples=["The image cannot be read"])]
    status: Annotated[int, Field(examples=[422])]
    detail: Annotated[str, Field(examples=["not an image of a known format (JPEG, PNG, ...)"])]


class Example(BaseModel):
    """A training photo that an image is like."""

    label: Annotated[str, Field(description="Its class, as it was trained with")]
    distance: Annotated[float, Field(description="From 0, the same to the model, to 2: one minus the cosine of its features")]
    name: Annotated[str | None, Field(description="Its path within the training data, where the model carries names")] = None
    thumbnail: Annotated[str | None, Field(description="A small JPEG as a data: address, where the model carries them")] = None


class ImageAnswer(BaseModel):
    """What is said of one image; or ``problem``, and why nothing is."""

    name: Annotated[str, Field(description="The file name that came with it, or empty")] = ""
    label: Annotated[str | None, Field(description="The most probable class; missing where known is false")] = None
    probability: Annotated[float | None, Field(description="Of the most probable class")] = None
    probabilities: Annotated[dict[str, float] | None, Field(description="By class, the most probable first; ?top=K: so many")] = None
    labels: Annotated[
        list[str] | None,
        Field(description="Where the model carries it: the classes that hold the true one with the probability ?coverage="),
    ] = None
    unsure: Annotated[bool | None, Field(description="Where labels is told: whether that is none, or more than one")] = None
    novelty: Annotated[float | None, Field(description="With ?abstain=: how unlike it is to the training photos, from 0 to 2")] = None
    known: Annotated[bool | None, Field(description="With ?abstain=: whether it is like enough to them for an answer")] = None
    nearest: Annotated[list[Example] | None, Field(description="With ?nearest=K: the training photos that it is most like")] = None
    problem: ProblemAnswer | None = None


class Prediction(BaseModel):
    """The answer to a request for predictions."""

    model: Annotated[str, Field(description="The name of the model that answered")]
    results: Annotated[list[ImageAnswer], Field(description="One for each image, in the order they came")]


class Explanation(BaseModel):
    """Which part of a photo speaks for a class."""

    model: str
    label: Annotated[str, Field(description="The class that the map is of")]
    probability: float
    method: Annotated[str, Field(description="cam: exact class activation map; occlusion: what is lost where a place is covered")]
    map: Annotated[list[list[float]], Field(description="Row by row, from the top left of what the network sees")]
    box: Annotated[
        list[float], Field(description="What the network sees of the upright photo: left, top, width, height, as shares of its sides")
    ]


class ModelAnswer(BaseModel):
    """One model that is served."""

    name: str
    default: Annotated[bool, Field(description="Whether it answers where no model is named")]
    classes: list[str]
    precision: str
    maps: Annotated[bool, Field(description="Whether it has exact class activation maps")]
    sets: Annotated[bool, Field(description="Whether it carries what sets of classes need")]
    abstain: Annotated[float, Field(description="The most that ?abstain= may be; 0 where it cannot tell what is new to it")]
    examples: Annotated[int, Field(description="How many of its training photos it can show: ?nearest=")]
    sha256: Annotated[str, Field(description="Of its file; of two, the sum of their sums")]
    card: Annotated[dict[str, Any], Field(description="Where it comes from and how good it is")]


class Models(BaseModel):
    """All models that are served."""

    models: list[ModelAnswer]


class Health(BaseModel):
    """Whether the server lives, or is ready."""

    status: str
