"""Recipes: a short TOML file in, a checked `Recipe` out."""

from edgeport.recipe.explain import explain
from edgeport.recipe.load import load_recipe, schema

__all__ = ["explain", "load_recipe", "schema"]
