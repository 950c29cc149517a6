"""`edgeport run`."""

from __future__ import annotations

import json
from pathlib import Path

import click

from edgeport.cli.options import NEW, options_of, output_option, resume_option, store_option
from edgeport.cli.output import Output, output_options
from edgeport.cli.result import show_run
from edgeport.errors import UsageError
from edgeport.options.artifacts import RunOptions

__all__ = ["command"]


@click.command(name="run")
@click.argument("recipe", type=NEW, required=False)
@output_option(text="Results [default: edgeport-out beside RECIPE].")
@store_option
@click.option("--explain", is_flag=True, help="Print the recipe with every default, and do nothing.")
@click.option("--dry-run", is_flag=True, help="Say what would be done, and how long it may take; do nothing.")
@resume_option("Go on from what earlier runs finished [default], or do all of it anew.")
@options_of(RunOptions, "device require_placement")
@click.option("--schema", is_flag=True, help="Print the JSON Schema of recipes, for editors.")
@output_options
def command(
    *,
    recipe: Path | None,
    place: Path | None,
    store: Path | None,
    explain: bool,
    dry_run: bool,
    fresh: bool,
    options: RunOptions,
    schema: bool,
    output: Output,
) -> int:
    """The whole way of RECIPE, a .toml file: the best verified artifact, and the proof.

    What was finished is kept in the store: a second run, or one after Ctrl-C, goes on from there.

    \b
    Examples:
      edgeport run recipe.toml
      edgeport run recipe.toml --explain
      edgeport run recipe.toml --dry-run
      edgeport run recipe.toml --device pi5
    """  # noqa: D301 (click's own mark against wrapping)
    if schema:
        from edgeport.recipe import schema as recipe_schema

        click.echo(json.dumps(recipe_schema(), indent=2))
        return 0
    if recipe is None:
        raise UsageError(asked="run a recipe", found="no file", fix="give one, as in edgeport run recipe.toml")
    if explain:
        return _explain(recipe, output)
    from edgeport import api

    if dry_run:
        return _rehearse(recipe, store, fresh=fresh, output=output)
    with output.progress() as on_progress:
        result = api.run(
            recipe,
            output=place,
            store=store,
            on_progress=on_progress,
            fresh=fresh,
            device=options.device,
            require_placement=options.require_placement,
        )
    return show_run(output, result)


def _explain(path: Path, output: Output) -> int:
    from edgeport.contracts import to_jsonable
    from edgeport.recipe import explain, load_recipe
    from edgeport.recipe.statistical_power import evaluation_count, thin_by_target

    recipe = load_recipe(path)
    if output.as_json:
        for thin in thin_by_target(recipe, evaluation_count(recipe.data)).values():
            if thin and not output.quiet:
                click.echo(f"warning: {thin}", err=True)
        click.echo(json.dumps(to_jsonable(recipe), indent=2))
    else:
        click.echo(explain(recipe), nl=False)
    return 0


def _rehearse(recipe: Path, store: Path | None, *, fresh: bool, output: Output) -> int:
    import tempfile

    from edgeport import api
    from edgeport.cli.render_steps import draw_dry_run
    from edgeport.contracts import to_jsonable

    with tempfile.TemporaryDirectory(prefix="edgeport-dry-") as empty, output.progress() as on_progress:
        found = api.dry_run(recipe, store=Path(empty) if fresh else store, on_progress=on_progress)
    output.show(lambda: to_jsonable(found), lambda console: draw_dry_run(console, found))
    return 0
