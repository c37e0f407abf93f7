# SPDX-License-Identifier: LGPL-2.1-or-later
# Completes the zcbuf command. It is asked itself for its commands, options and heaps.
function __zcbuf_heaps
    zcbuf list | tail -n +2 | string replace -r ' .*' ''
end

function __zcbuf_complete
    set -l words (commandline -opc)
    if test (count $words) -eq 1
        zcbuf --help | string replace -rf '^  ((?:--)?[a-z]+)  +(.*)' '$1\t$2'
        return
    end
    set -l help (zcbuf $words[2] --help 2> /dev/null)
    or return
    if test $words[-1] = --disk
        __fish_complete_directories (commandline -ct)
    else if test $words[-1] = --heap
        __zcbuf_heaps
    else if test "$words[2] $words[-1]" = 'top --by'
        string split ' ' 'buffer holding process exporter cgroup'
    else if string match -rq -- "^  $words[-1] [A-Z]" $help
        return # some number or name
    else if string match -q -- '-*' (commandline -ct)
        string replace -rf '^  (--[a-z]+)(?: [A-Z]+)? +(.*)' '$1\t$2' $help
        printf '%s\t%s\n' --help 'explains this command'
    else if test $words[2] = bench
        echo anonymous
        __zcbuf_heaps
    else if test $words[2] = info
        __fish_complete_pids
    end
end

complete -c zcbuf -f -a '(__zcbuf_complete)'
