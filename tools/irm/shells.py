"""Scripts that make bash, zsh and fish complete the tools: `irm` by asking it, the others by their own help (docs/reference/irm.md)."""

from __future__ import annotations

PROGRAMS = ("irmd", "oping", "oecho", "obc", "ocbr", "operf", "ocap", "olab")
"""All tools but irm: their options are in their help, and an option that ends with `name` takes a name."""

_BASH = r"""# Completion of Ouroboros for bash: irm completion bash > /etc/bash_completion.d/ouroboros
_ouroboros_reply() {
    local line
    COMPREPLY=()
    while IFS= read -r line; do
        line=${line%%$'\t'*}
        if [ "$line" = ":files" ]; then
            compopt -o default
        elif [ "${line#"$1"}" != "$line" ] || [ -z "$1" ]; then
            COMPREPLY+=("$(printf %q "$line")")
        fi
    done
}
_ouroboros_irm() {
    local words=("${COMP_WORDS[@]:1:COMP_CWORD}")
    _ouroboros_reply "${2//\\/}" < <("$1" complete -- "${words[@]//\\/}" 2>/dev/null)
}
_ouroboros_tool() {
    case $3 in
        -n|--name|--server-name) _ouroboros_reply "$2" < <(irm complete -- name show "$2" 2>/dev/null) ;;
        --layer) _ouroboros_reply "$2" < <(irm complete -- name register x layer "$2" 2>/dev/null) ;;
        *)
            case $2 in
                -*) _ouroboros_reply "$2" < <("$1" --help 2>/dev/null | grep -oE -- '--[a-z][a-z-]*' | sort -u) ;;
                *) compopt -o default ;;
            esac ;;
    esac
}
complete -F _ouroboros_irm irm
complete -F _ouroboros_tool @PROGRAMS@
"""

_ZSH = r"""#compdef irm @PROGRAMS@
# Completion of Ouroboros for zsh: irm completion zsh > a folder of $fpath, as _ouroboros
_ouroboros_reply() {
    local line
    local -a found described
    while IFS= read -r line; do
        if [[ $line == :files ]]; then
            _files
            return
        fi
        found+=("${line%%$'\t'*}")
        described+=("${line/$'\t'/ -- }")
    done
    compadd -l -d described -a found
}
_ouroboros() {
    if [[ $service == irm ]]; then
        _ouroboros_reply < <("$words[1]" complete -- "${(@Q)words[2,CURRENT]}" 2>/dev/null)
        return
    fi
    case $words[CURRENT-1] in
        -n|--name|--server-name) _ouroboros_reply < <(irm complete -- name show "${(Q)PREFIX}" 2>/dev/null) ;;
        --layer) _ouroboros_reply < <(irm complete -- name register x layer "${(Q)PREFIX}" 2>/dev/null) ;;
        *)
            if [[ $PREFIX == -* ]]; then
                _ouroboros_reply < <("$words[1]" --help 2>/dev/null | grep -oE -- '--[a-z][a-z-]*' | sort -u)
            else
                _files
            fi ;;
    esac
}
if [[ $zsh_eval_context[-1] == loadautofunc ]]; then
    _ouroboros "$@"
else
    compdef _ouroboros irm @PROGRAMS@
fi
"""

_FISH = r"""# Completion of Ouroboros for fish: irm completion fish > ~/.config/fish/completions/irm.fish
function __ouroboros_irm
    set -l words (commandline -opc)
    irm complete -- $words[2..-1] (commandline -ct) 2>/dev/null | string match -v ':files'
end
function __ouroboros_wants_files
    set -l words (commandline -opc)
    irm complete -- $words[2..-1] (commandline -ct) 2>/dev/null | string match -q ':files'
end
complete -c irm -f
complete -c irm -n 'not __ouroboros_wants_files' -f -a '(__ouroboros_irm)'
complete -c irm -n __ouroboros_wants_files -F
for tool in @PROGRAMS@
    complete -c $tool -a "($tool --help 2>/dev/null | string match -ra -- '--[a-z][a-z-]*')" -n 'string match -q -- "-*" (commandline -ct)'
    complete -c $tool -l layer -x -a '(irm complete -- name register x layer "" 2>/dev/null)'
end
for tool in oping oecho operf ocbr obc
    complete -c $tool -s n -x -a '(irm complete -- name show "" 2>/dev/null)'
end
"""

_SCRIPTS = {"bash": _BASH, "zsh": _ZSH, "fish": _FISH}


def script(shell: str) -> str:
    """The script for a shell. Raises ValueError."""
    if shell not in _SCRIPTS:
        raise ValueError(f'there is no completion for "{shell}"; it must be one of: {", ".join(_SCRIPTS)}.')
    return _SCRIPTS[shell].replace("@PROGRAMS@", " ".join(PROGRAMS))
