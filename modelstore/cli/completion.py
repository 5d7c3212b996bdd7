"""``mstore completion``."""

from __future__ import annotations

import click
from click.shell_completion import BashComplete, get_completion_class, shell_complete

from modelstore.cli import common

VARIABLE = "_MSTORE_COMPLETE"
"""Set by a shell that asks what could come next, to "bash_complete" and the like."""

# Readline cuts words at @, : and =, but llama_1b@v1.1 is one word to mstore: the words are put
# together again as they stand on the line, and what readline keeps is cut off the replies: it
# replaces only $2, which may begin with the @.
_BASH = """\
%(complete_func)s() {
    local IFS=$'\\n' rest=$COMP_LINE part kept completion type value
    local -a words=()
    for part in "${COMP_WORDS[@]:0:COMP_CWORD+1}"; do
        if [[ ${#words[@]} -gt 0 && $rest != [[:space:]]* && -n $rest ]]; then
            words[-1]+=$part
        else
            words+=("$part")
        fi
        rest=${rest#"${rest%%%%[![:space:]]*}"}
        rest=${rest#"$part"}
    done
    kept=${words[-1]%%"$2"}
    [[ $kept == -*=* ]] && kept=${kept#*=}
    COMPREPLY=()
    for completion in $(env COMP_WORDS="${words[*]}" COMP_CWORD=$((${#words[@]} - 1)) \\
            %(complete_var)s=bash_complete "$1"); do
        IFS=',' read -r type value <<< "$completion"
        case $type in
            dir) compopt -o dirnames ;;
            file) compopt -o default ;;
            plain) COMPREPLY+=("${value#"$kept"}") ;;
        esac
    done
}

complete -o nosort -F %(complete_func)s %(prog_name)s
"""


class _Bash(BashComplete):
    """Bash, with words that may hold an @."""

    source_template = _BASH


@click.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@common.store_options
@click.pass_context
def completion(ctx: click.Context, shell: str) -> None:
    """Print the shell's completion script.

    For bash: eval "$(mstore completion bash)", in ~/.bashrc. It completes models and versions too.
    """
    found = _Bash if shell == "bash" else get_completion_class(shell)
    if found is None:
        raise click.UsageError(f"{shell} is not supported")
    click.echo(found(ctx.find_root().command, {}, "mstore", VARIABLE).source())


def answer(command: click.Command, instruction: str) -> int:
    """Answer a shell that asks what could come next; return the exit code."""
    return shell_complete(command, {}, "mstore", VARIABLE, instruction)
