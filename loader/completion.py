"""Shell completion, made of the commands' parsers: options, choices, and by an operand's name what it may be.

FILE is a file, TARGET what `podrate completion targets` lists or a directory, COMMAND a command of the shell's.
"""

from loader.parser import Argument, Command, arguments, commands
from loader.say import printable


def script(shell: str) -> str:
    """The completion for bash, zsh or fish."""
    return {"bash": _bash, "zsh": _zsh, "fish": _fish}[shell](list(commands()))


def targets() -> int:
    """Print what a TARGET may be here, one on a line; those that a shell would take apart are left out."""
    from loader.target import candidates

    for each in candidates():
        if each.isprintable() and not set(each) & set(" \\'\"$`:*?[]"):
            print(each)
    return 0


def _words(each: Command) -> list[str]:
    """Options and choices."""
    return [word for a in arguments(each.parser) for word in (*a.options, *(() if a.options else a.choices))]


def _kinds(each: Command) -> set[str]:
    return {a.metavar for a in arguments(each.parser)} & {"FILE", "TARGET", "COMMAND"}


def _bash(known: list[Command]) -> str:
    cases = []
    for each in known:
        values = {option: a for a in arguments(each.parser) if a.metavar for option in a.options}
        lines = [f"      {option}) {_bash_value(a)}; return ;;" for option, a in values.items()]
        offers = [f"compgen -W '{' '.join(_words(each))}' -- \"$word\""]
        if "TARGET" in (kinds := _kinds(each)):
            offers += ['compgen -W "$(podrate completion targets 2>/dev/null)" -- "$word"', 'compgen -d -- "$word"']
        if "FILE" in kinds:
            offers.append('compgen -f -- "$word"')
        if "COMMAND" in kinds:
            offers.append('compgen -c -- "$word"')
        case = (
            [f"    {each.name})", '      case "$before" in', *lines, "      esac"] if lines else [f"    {each.name})"]
        )
        cases += [*case, f"      mapfile -t COMPREPLY < <({'; '.join(offers)}) ;;"]
    names = " ".join(each.name for each in known)
    return "\n".join(
        [
            "# podrate completion bash",
            "_podrate() {",
            "  local word=${COMP_WORDS[COMP_CWORD]} before=${COMP_WORDS[COMP_CWORD-1]} i",
            "  COMPREPLY=()",
            '  if [ "$COMP_CWORD" -eq 1 ]; then',
            f"    mapfile -t COMPREPLY < <(compgen -W '{names} --help' -- \"$word\")",
            "    return",
            "  fi",
            '  if [ "${COMP_WORDS[1]}" = help ]; then',
            f"    mapfile -t COMPREPLY < <(compgen -W '{names}' -- \"$word\")",
            "    return",
            "  fi",
            "  for ((i = 2; i < COMP_CWORD; i++)); do  # after -- another command's words",
            '    if [ "${COMP_WORDS[i]}" = -- ]; then',
            '      if ((i + 1 == COMP_CWORD)); then mapfile -t COMPREPLY < <(compgen -c -- "$word")',
            '      else mapfile -t COMPREPLY < <(compgen -f -- "$word"); fi',
            "      return",
            "    fi",
            "  done",
            '  case "${COMP_WORDS[1]}" in',
            *cases,
            "  esac",
            "}",
            "complete -o filenames -F _podrate podrate",
            "",
        ]
    )


def _bash_value(argument: Argument) -> str:
    if argument.choices:
        return f"mapfile -t COMPREPLY < <(compgen -W '{' '.join(argument.choices)}' -- \"$word\")"
    return 'mapfile -t COMPREPLY < <(compgen -f -- "$word")' if argument.metavar == "FILE" else ":"


def _zsh(known: list[Command]) -> str:
    lines = [
        "#compdef podrate",
        "# podrate completion zsh",
        "_podrate_targets() {",
        '  local -a targets=(${(f)"$(podrate completion targets 2>/dev/null)"})',
        "  _alternative 'targets:target:compadd -a targets' 'directories:cgroup:_files -/'",
        "}",
        "_podrate() {",
        "  if ((CURRENT == 2)); then",
        "    local -a commands=(",
        *(f"      {_quoted(f'{each.name}:{each.summary}')}" for each in known),
        "    )",
        "    _describe command commands",
        "    return",
        "  fi",
        "  local command=$words[2]",
        "  shift words; ((CURRENT--))",
        "  case $command in",
    ]
    for each in known:
        lines.append(f"    {each.name}) _arguments -S : \\")
        for argument in arguments(each.parser):
            lines += [f"      {spec} \\" for spec in _zsh_specs(argument)]
        lines.append("      ;;")
    # A file of $fpath is run whole at the first Tab, under the function's name: it has to complete then, too.
    last = 'if [[ $funcstack[1] == _podrate ]]; then _podrate "$@"; else compdef _podrate podrate; fi'
    return "\n".join([*lines, "  esac", "}", last, ""])


def _zsh_specs(argument: Argument) -> list[str]:
    does = {"FILE": "_files", "TARGET": "_podrate_targets", "COMMAND": "_normal"}.get(argument.metavar, " ")
    if argument.choices:
        does = f"({' '.join(argument.choices)})"
    value = f":{argument.metavar.lower()}:{does}" if argument.metavar else ""
    text = argument.help.replace("[", "(").replace("]", ")").replace(":", ";")
    if not argument.options:
        return [_quoted(f"*:{value}" if argument.metavar == "COMMAND" else value)]
    return [_quoted(f"{option}[{text}]{value}") for option in argument.options]


def _fish(known: list[Command]) -> str:
    lines = ["# podrate completion fish", "complete -c podrate -f"]
    for each in known:
        lines.append(f"complete -c podrate -n __fish_use_subcommand -a {each.name} -d {_quoted(each.summary)}")
        seen = f"-n '__fish_seen_subcommand_from {each.name}'"
        for argument in arguments(each.parser):
            what = " ".join(
                f"-l {option[2:]}" if option.startswith("--") else f"-s {option[1:]}" for option in argument.options
            )
            offers = f"-xa '{' '.join(argument.choices)}'" if argument.choices else "-r" if argument.metavar else ""
            if argument.options:
                lines.append(f"complete -c podrate {seen} {what} {offers} -d {_quoted(argument.help)}")
            elif argument.choices:
                lines.append(f"complete -c podrate {seen} -a '{' '.join(argument.choices)}'")
            elif argument.metavar == "TARGET":
                lines.append(
                    f"complete -c podrate {seen} -a '(podrate completion targets; __fish_complete_directories)'"
                )
            elif argument.metavar == "FILE":
                lines.append(f"complete -c podrate {seen} -F")
            elif argument.metavar == "COMMAND":
                lines.append(f"complete -c podrate {seen} -xa '(__fish_complete_subcommand)'")
    return "\n".join([*lines, ""])


def _quoted(text: str) -> str:
    """A word of any of the three shells."""
    return "'" + printable(text).replace("'", "'\\''") + "'"
