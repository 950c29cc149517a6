"""Drafts a recipe for a model: `edgeport init`."""

from edgeport.recipe_init.draft import Asked, Draft
from edgeport.recipe_init.init import draft_recipe

__all__ = ["Asked", "Draft", "draft_recipe"]
