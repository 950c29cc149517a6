"""Drafts a recipe for a model: `edgeport init`."""

from edgeport.recipe_init.draft import Draft, InitRequest
from edgeport.recipe_init.init import draft_recipe

__all__ = ["Draft", "InitRequest", "draft_recipe"]
