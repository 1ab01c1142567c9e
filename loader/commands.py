"""The commands, by name, and those that print what is made of them. Nothing else is imported before one is run."""

import argparse

from loader.limiting import attach, detach, run, set_
from loader.looking import doctor, status, top
from loader.parser import Declare, Run

EXAMPLES = """\
examples:
  podrate run --egress 10M -- curl -O http://example.com/file    # a command, limited
  podrate attach --bandwidth 50M nginx.service                   # a service, from now on
  podrate status                                                 # every limit here, and whether it holds back
  podrate detach nginx.service
"""


def _completion(parser: argparse.ArgumentParser) -> Run:
    parser.description = """\
Print the completion of a shell.

To be evaluated by the shell when it starts, or kept where it looks for completions.
"""
    parser.epilog = """\
examples:
  eval "$(podrate completion bash)"    # in ~/.bashrc
  podrate completion zsh >/usr/local/share/zsh/site-functions/_podrate
  podrate completion fish >~/.config/fish/completions/podrate.fish
"""
    what = "bash, zsh or fish; or targets: what TARGET may be on this machine, one on a line"
    parser.add_argument("shell", metavar="SHELL", choices=("bash", "zsh", "fish", "targets"), help=what)

    def work(options: argparse.Namespace) -> int:
        from loader.completion import script, targets

        if options.shell == "targets":
            return targets()

        print(script(options.shell), end="")
        return 0

    return work


def _man(parser: argparse.ArgumentParser) -> Run:
    parser.description = """\
Print the manual.

As a page for man(1), or as the Markdown of docs/cli.md.
"""
    parser.epilog = """\
examples:
  podrate man | man -l -
"""
    parser.add_argument("--markdown", action="store_true", help="Markdown, not a man page")

    def work(options: argparse.Namespace) -> int:
        from loader.manual import man, markdown

        print(markdown() if options.markdown else man(), end="")
        return 0

    return work


COMMANDS: dict[str, Declare] = {
    "run": run,
    "attach": attach,
    "set": set_,
    "detach": detach,
    "status": status,
    "top": top,
    "doctor": doctor,
    "completion": _completion,
    "man": _man,
}
