"""Drafts a recipe for a model: `edgeport init`."""

from edgeport.drafting.draft import Asked, Draft
from edgeport.drafting.init import draft_recipe

__all__ = ["Asked", "Draft", "draft_recipe"]
