#!/bin/sh
# Move a clean working copy forward to what its remote branch has, or change nothing and say why.
#
#   gitops_sync.sh [OPTION]... DIR BRANCH [SHA]
#
#   --plan               fetch, say what would happen, move nothing
#   --json               one JSON line on stdout instead of sentences
#   --submodules         after the move, bring the submodules to what the commit asks for
#   --ignore-dirty GLOB  an edited file that matches is in the way only if the push changes it; may be repeated.
#                        Relative to DIR; * stops at a slash, ** does not
#   --allow-file         the remote may be a directory of this host
#   --allowed-signers FILE  only to a commit that one of these has signed with SSH (ssh-keygen(1), ALLOWED SIGNERS)
#
# The target is SHA where the remote branch contains it, else the branch's tip.
#
# Exit code and verdict:
#    0 ok, up_to_date         10 dirty                 11 dirty_overlap        12 untracked_collision
#   13 diverged               14 ahead                 15 forced               16 detached
#   17 locked                 18 wrong_branch          19 not_a_repository     20 wrong_owner
#   21 fetch_failed           22 corrupt               23 unsigned                2 wrong usage
#
# The JSON line: verdict, detail (words), repair (commands, to be run in DIR), branch, asked (SHA), head_before, head,
# target, commits (how many of the target's HEAD lacks), plan. It names no file of the working copy.
#
# Unless the verdict is ok, working copy, index, HEAD, stashes and branches, those of refs/remotes too, stay as they
# are; what was fetched is kept, as refs/worktree/homelab/fetched. Two exceptions, which say so: submodules that could
# not follow (fetch_failed, and head is the target), and a move that failed half-way as did the way back (dirty).
# It runs as the working copy's owner only; how long, its caller limits. No hook runs; a filter of the owner's
# configuration (LFS) runs where it does for git status, on files whose size or time has changed, and for the move.
# Needs the usual tools (GNU or busybox) and git 2.39 or later.
set -uf
export LC_ALL=C
nl='
'
codes=' ok:0 up_to_date:0 dirty:10 dirty_overlap:11 untracked_collision:12 diverged:13 ahead:14 forced:15 detached:16
    locked:17 wrong_branch:18 not_a_repository:19 wrong_owner:20 fetch_failed:21 corrupt:22 unsigned:23 '
fetched=refs/worktree/homelab/fetched
status='git status --porcelain=v2 --branch --no-ahead-behind --untracked-files=no --no-renames'
names_files='' plan=false json=false submodules=false local_remotes=never signers='' dir='' branch='' asked=''
head='' reached='' target='' commits=0 remark=''

usage() {
    printf '%s\nusage: gitops_sync.sh %s\n    %s\n' "$1" '[--plan] [--json] [--submodules] [--ignore-dirty GLOB]...' \
        '[--allow-file] [--allowed-signers FILE] DIR BRANCH [SHA]' >&2
    exit 2
}

json_string() { # set $quoted to $1 as a JSON string, without what is not UTF-8, control characters as spaces
    quoted=$1
    case $quoted in *[!\ -~]*) quoted=$(printf %s "$1" | tr '\001-\037\177' ' ' | iconv -c -f UTF-8 -t UTF-8) ;; esac
    case $quoted in *[\"\\]*) quoted=$(printf '%s\n' "$quoted" | sed 's/[\\"]/\\&/g') ;; esac
    quoted=\"$quoted\"
}

shell_word() { # set $quoted to $1 as a word of a shell command
    quoted=$1
    case $1 in
    *[!A-Za-z0-9_./-]*) quoted=$(printf '%s\n' "$1" | sed "s/'/'\\\\''/g; 1s/^/'/; \$s/\$/'/") ;;
    esac
}

count() { # set $counted to NUMBER NOUN, in words
    counted="$(($1)) $2s"
    [ "$1" -ne 1 ] || counted="1 $2"
}

conclude() { # VERDICT DETAIL [COMMAND]...: say it and end
    verdict=$1 detail=$2$remark code=${codes#*" $1:"}
    shift 2
    if $json; then
        repair=''
        for command; do
            json_string "$command"
            repair=$repair${repair:+, }$quoted
        done
        json_string "$branch"
        name=$quoted
        json_string "$detail"
        printf '{"verdict": "%s", "detail": %s, "repair": [%s], "branch": %s, "asked": "%s", "head_before": "%s", ' \
            "$verdict" "$quoted" "$repair" "$name" "$asked" "$head"
        printf '"head": "%s", "target": "%s", "commits": %d, "plan": %s}\n' \
            "${reached:-$head}" "$target" "$commits" "$plan"
    else
        printf '%s: %s.\n' "$verdict" "$detail"
        if [ $# -gt 0 ]; then
            shell_word "$dir"
            printf '    %s\n' "cd $quoted" "$@"
        fi
    fi
    exit "${code%%[!0-9]*}"
}

cause() { # set $why to what git complained of, $said, in one line; all of it goes to stderr, secrets in URLs masked
    said=$(printf '%s\n' "$said" |
        sed "s,://[^/[:space:]]*@,://***@,g; s,\(://[^?[:space:]]*\)?[^[:space:]']*,\1?***,g")
    printf '%s\n' "$said" >&2
    why=$(printf '%s\n' "$said" | here=$PWD awk '
        BEGIN { here = ENVIRON["here"] }
        { while (at = index($0, here)) $0 = substr($0, 1, at - 1) "." substr($0, at + length(here)) }
        NF && !seen[$0]++ { line = line (line ? "; " : "") $0 }
        END { print substr(line, 1, 600) }')
    why=${names_files:-$why}
}

damaged_index() { # HOW
    conclude corrupt "the index is damaged: $1" \
        "mv \"\$(git rev-parse --git-path index)\" \"\$(git rev-parse --git-path index.damaged)\"" 'git reset'
}

complain() { # VERDICT DETAIL [COMMAND]...: conclude with what git said, unless that is of a lock, an owner or damage
    cause
    case $said in
    *'dubious ownership'* | *'insufficient permission'* | *'nable to '[cuow]*': Permission denied'* | \
        *'annot '[coml]*': Permission denied'*)
        owner=$(stat -c %U .) me=$(id -un)
        case $owner:$1:$said in
        "$me":fetch_failed:*'dubious ownership'*)
            conclude fetch_failed "git reads no remote on this host that is another user's: $why" \
                'git remote set-url origin URL (an http or ssh address)'
            ;;
        esac
        [ "$owner" != "$me" ] || conclude wrong_owner "part of it is not $me's: $why" "sudo chown -R $me ."
        shell_word "$script"
        script=$quoted
        shell_word "$branch"
        conclude wrong_owner "it is $owner's, and this runs as $me: $why" "sudo -u $owner sh $script . $quoted"
        ;;
    *".lock': File exists"* | *'cannot lock ref'*)
        conclude locked "another git is at work, or was killed: $why" 'pgrep -a git'
        ;;
    *'index file'* | *'cache entry'* | *'bad signature'* | *'bad index'* | *'stage entries'*) damaged_index "$why" ;;
    *corrupt* | *'bad object'* | *'bad tree'* | *'nresolved deltas'* | *'nable to read'* | *'nable to unpack'* | \
        *'ailed to read'* | *'not match index'* | *'missing blob'* | *'too short'*) # here, or on the other side?
        git fsck --connectivity-only --no-dangling --no-progress >/dev/null 2>&1 || set -- corrupt
        ;;
    esac
    [ "$1" != corrupt ] || conclude corrupt "what git keeps here is damaged: $why" \
        "git clone --bare \"\$(git ls-remote --get-url)\" \"\$(git rev-parse --git-common-dir)/whole\"" \
        "(cd \"\$(git rev-parse --git-common-dir)\" && mv objects objects.damaged && mv whole/objects objects)"
    verdict=$1 detail=$2
    shift 2
    conclude "$verdict" "$detail: $why" "$@"
}

fetch() {
    said=$(
        git -c core.logAllRefUpdates=always fetch --quiet --stdin --refmap= --no-tags --no-prune --no-write-fetch-head \
            --no-recurse-submodules --no-auto-maintenance --no-write-commit-graph 2>&1 <<END
+refs/heads/$branch:$fetched
END
    ) && return
    case $said in
    *"transport 'file' not allowed"*) detail='the remote is a directory of this host: that needs --allow-file' ;;
    *"couldn't find remote ref"*) detail='the remote has no such branch' ;;
    *'Host key verification failed'*) detail='its host key is not the one known here: ask its owner which is right' ;;
    *'uthentication failed'* | *'could not read '[UP]* | *'Permission denied ('* | *'error: 40'[13]*)
        detail='the remote does not let this user in'
        ;;
    *'No space left'* | *'quota exceeded'*) complain fetch_failed 'the disk is full' 'df -h .' ;;
    *) detail='the remote does not give it' ;;
    esac
    complain fetch_failed "$detail" 'git ls-remote --get-url' 'git ls-remote --heads'
}

expect_no_lock() { # a lock is left alone however old it is: only its maker knows whether it is still at work
    for lock in "$gitdir/index" "$gitdir/HEAD" "$gitdir/$fetched" "$common/refs/heads/$branch" \
        "$common/${upstream:-HEAD}"; do
        [ -e "$lock.lock" ] || continue
        made=$(stat -c %Y -- "$lock.lock") || continue
        age=$(($(date +%s) - made))
        name=${lock#"$gitdir/"}.lock
        name=${name#"$common/"}
        shell_word "$name"
        set -- 'pgrep -a git' "rm \"\$(git rev-parse --git-path $quoted)\""
        [ "$age" -ge 600 ] || set -- 'pgrep -a git' # and look again later
        conclude locked "another git is at work, or was killed: $name is $age s old" "$@"
    done
}

expect_nothing_under_way() { # what a person has begun, a person ends
    while read -r file what end; do
        [ ! -e "$gitdir/$file" ] || conclude dirty "a $what is under way: end it, or take it back" 'git status' "$end"
    done <<END
rebase-merge rebase git rebase --abort
rebase-apply/applying git-am git am --abort
rebase-apply rebase git rebase --abort
MERGE_HEAD merge git merge --abort
CHERRY_PICK_HEAD cherry-pick git cherry-pick --abort
REVERT_HEAD revert git revert --abort
BISECT_LOG bisection git bisect reset
END
}

expect_no_history() { # of its own: all of HEAD's commits are the remote branch's; $news is where the two differ
    case $nl$news in *"$nl<"*) ;; *) return ;; esac
    known=${upstream:-refs/remotes/origin/$branch}
    commits=$(git rev-list --count "$tip" "^$head")
    missed=$(git rev-list --count "$head" "^$tip")
    own=$({ # what the remote branch has never had, as far as can be known
        git rev-parse --quiet --verify "$known"
        git merge-base --fork-point "$known" "$head"
        git log --walk-reflogs --format=%H "$fetched"
    } 2>/dev/null | sed 's/^/^/' | git rev-list --count --ignore-missing --stdin "$head" "^$tip")
    set -- "git branch --force kept-$(printf %.7s "$head")" "git reset --keep $tip"
    count "$own" commit
    [ "$own" -eq "$missed" ] || conclude forced \
        "the remote took back $((missed - own)) of its commits; $counted only here" "$@"
    [ "$commits" -eq 0 ] || conclude diverged "$counted only here, and others only at the remote" "$@"
    conclude ahead "$counted only here" "$@"
}

expect_signed() { # with SSH, by who may; whom else the owner's own settings trust, and with what, is no matter here
    if [ -z "$signers" ] || [ "$commits" -eq 0 ]; then return; fi
    said=$(git -c "gpg.ssh.allowedSignersFile=$signers" -c gpg.ssh.program=ssh-keygen -c gpg.program=false \
        -c gpg.x509.program=false -c gpg.minTrustLevel=fully verify-commit "$target" 2>&1) && return
    [ -n "$said" ] || said='it has no signature'
    cause
    shell_word "gpg.ssh.allowedSignersFile=$signers"
    conclude unsigned "none who may has signed $(printf %.7s "$target"): $why" "git -c $quoted verify-commit -v $target"
}

names() { # print the names in $1, which git status has printed, quoted by git, one a line
    printf '%s\n' "$1" | while IFS= read -r line; do
        case $line in
        '1 .M SC.. '*) ;; # another commit in a submodule: what a move without --submodules leaves behind
        '1 '*) printf '%s\n' "${line#* * * * * * * * }" ;;
        'u '*) printf '%s\n' "${line#* * * * * * * * * * }" ;;
        esac
    done
}

pushed() { # print the names of what the push changes, quoted by git, one a line; [-z] [OPTION]...
    if [ "$commits" -eq 0 ]; then
        return
    elif [ -n "$head" ]; then
        git diff-tree -r --no-renames --name-only "$@" "$head" "$target"
    else
        case ${1-} in -z) git ls-tree -r --name-only -z "$target" ;; *) git ls-tree -r --name-only "$target" ;; esac
    fi
}

expect_no_killed_move() { # VERDICT
    [ -n "$halfway" ] || return
    files="git diff --name-only --no-renames -z ${head:-"\$(git hash-object -t tree /dev/null)"} $halfway"
    take="git --literal-pathspecs checkout --no-overlay --pathspec-from-file=- --pathspec-file-nul $halfway"
    conclude "$1" "a move to $halfway was killed half-way: see git diff, then let this end it" \
        'git reset --quiet' "$files | $take" "git reset --soft $halfway"
}

expect_whole_index() { # which ends in a checksum, or in noughts (index.skipHash); git reads less as files to be removed
    [ -s "$gitdir/index" ] || damaged_index 'it is gone'
    case ${#head} in 64) size=32 sum=sha256sum ;; *) size=20 sum=sha1sum ;; esac
    end=$(tail -c "$size" "$gitdir/index" | od -An -v -tx1 | tr -d ' \n')
    real=$(head -c "-$size" "$gitdir/index" | $sum)
    case $end in *[!0]*) ;; *) return ;; esac
    [ "$end" = "${real%% *}" ] || damaged_index 'its checksum is not that of its content'
}

expect_clean() { # all of it, for git merge looks only at what the push changes; [PATHSPEC]...
    case $nl$state in
    *"${nl}error: "* | *"${nl}fatal: "*) said=$state && complain corrupt ;;
    *"$nl# branch.oid ${head:-(initial)}$nl# branch.head $branch$nl"*) ;;
    *) conclude locked 'another git moved HEAD at the same time' 'git status' ;;
    esac
    case $nl$state in *"$nl"[1u]' '*) dirty=$(names "$state") ;; *) dirty='' ;; esac
    [ -n "$dirty" ] || return
    expect_whole_index
    unstage='' stash='git stash push' in_the_way=$dirty
    case $nl$state in *"${nl}u "* | *"${nl}1 .A "*) unstage='git reset --quiet' ;; esac
    both=$({ printf '%s\n' "$dirty" && pushed; } | sort | uniq -d | wc -l)
    if [ "$both" -gt 0 ]; then
        expect_no_killed_move dirty_overlap
        count "$both" file
        conclude dirty_overlap "$counted edited here that the push changes" ${unstage:+"$unstage"} "$stash"
    fi
    if [ $# -gt 0 ]; then
        in_the_way=$(names "$($status -- "$@" 2>&1)")
        stash="$stash -- ."
        for glob; do
            shell_word "$glob"
            stash="$stash $quoted"
        done
    fi
    [ -n "$in_the_way" ] || return
    expect_no_killed_move dirty
    count "$(printf '%s\n' "$in_the_way" | wc -l)" file
    conclude dirty "$counted edited here" ${unstage:+"$unstage"} "$stash"
}

collide() {
    expect_no_killed_move untracked_collision
    conclude untracked_collision 'files that git does not keep are where the push adds its own: this names them' \
        "git merge --ff-only --no-overwrite-ignore $target"
}

expect_room() { # for what the push adds, as git merge expects it: what is ignored is not overwritten either
    in_the_way=$({ pushed --diff-filter=A && echo / && git ls-files --others; } | awk '
        $0 == "/" { added = 1; next }
        { gsub(/^"|"$/, "") }
        !added { file[$0]; for (name = $0; sub(/\/[^\/]*$/, "", name);) folder[name]; next }
        $0 in file || $0 in folder { print; next }
        { for (name = $0; sub(/\/[^\/]*$/, "", name);) if (name in file) { print; next } }' | wc -l)
    [ "$in_the_way" -eq 0 ] || collide
}

put_back() { # undo a move that failed half-way: what it has added is a file of the target, or the beginning of one
    (set -C && : >"$gitdir/index.lock") 2>/dev/null || return
    # shellcheck disable=SC2016 # the inner shell expands; in reverse, .gitattributes after the files that it tells of
    pushed -z --diff-filter=A | sort -rz | xargs -0 sh -c '
        for name; do
            if [ -L "$name" ]; then
                [ "$(readlink "$name")" = "$(git cat-file blob "$0:$name")" ] || continue
            elif [ -f "$name" ]; then
                git cat-file --filters "$0:$name" | head -c "$(wc -c <"$name")" | cmp -s - "$name" || continue
            else
                continue
            fi
            rm -f "./$name"
            case $name in */*) rmdir -p "./${name%/*}" 2>/dev/null ;; esac
        done' "$target"
    [ -z "$head" ] || pushed -z --diff-filter=a | git checkout-index --force --quiet -z --stdin
    rm -f "$gitdir/index.lock"
}

move() {
    was='' # where ORIG_HEAD is, which git merge sets even when it refuses
    [ ! -e "$gitdir/ORIG_HEAD" ] || read -r was <"$gitdir/ORIG_HEAD"
    echo "${head:-none} $target" >"$moving"
    trap : HUP INT TERM # they end git, and what git leaves half done is put back
    said=$(git merge --quiet --ff-only --no-stat --no-squash --no-autostash --no-overwrite-ignore "$target" 2>&1)
    ended=$?
    true >"$moving"
    [ "$ended" -ne 0 ] || return
    if [ -n "$was" ]; then echo "$was" >"$gitdir/ORIG_HEAD"; else rm -f "$gitdir/ORIG_HEAD"; fi
    again="git merge --ff-only --no-overwrite-ignore $target"
    names_files='git names the files on stderr'
    case $said in
    *"index.lock'"* | *'cannot lock ref'*) complain locked 'another git is at work' 'git status' ;;
    *'ntracked working tree file'* | *'would lose untracked files'*) collide ;;
    *'local changes'*'overwritten'*)
        conclude dirty_overlap 'edited just now, or hidden from git status, and changed by the push' "$again"
        ;;
    esac
    put_back
    if [ "$state" != "$($status 2>&1)$nl" ]; then
        echo "${head:-none} $target" >"$moving"
        complain dirty 'the move stopped half-way, and could not be taken back' 'df -h .' "$again"
    fi
    complain fetch_failed 'the commit is here, the working copy cannot take it and is as it was' 'df -h .' "$again"
}

follow() { # HEAD is where it was moved to, and the remote-tracking branch is where the remote's is
    said=$(
        git update-ref --stdin 2>&1 <<END
verify HEAD $target${upstream:+${nl}update $upstream $tip}
END
    ) && return
    [ "$(git rev-parse HEAD)" = "$target" ] || conclude locked 'another git moved HEAD at the same time' 'git status'
    cause
    remark="$remark; $upstream could not follow: $why"
}

mention() { # what is not as one may think
    [ ! -e .gitmodules ] || $submodules || remark="$remark; it has submodules, which only --submodules brings along"
    if [ -e .gitattributes ] && grep -q filter=lfs .gitattributes && ! git config filter.lfs.smudge >/dev/null; then
        remark="$remark; it has files in LFS, which git lfs install brings along"
    fi
    if $json && ! $plan; then return; fi # who moves often looks elsewhere
    marks='^[a-zS]' # assume-unchanged, skip-worktree
    [ ! -e "$gitdir/info/sparse-checkout" ] || marks='^[a-z]'
    hidden=$(git ls-files -v | grep -c "$marks")
    [ "$hidden" -eq 0 ] || remark="$remark; edits of $hidden of its files are hidden: see git ls-files -v"
}

how_many() { commits=$#; }

decide() { # with what git status prints on stdin; [PATHSPEC]...
    range="--left-right --topo-order ${head:+$head...}$fetched"
    # shellcheck disable=SC2086 # words
    news=$(git rev-list $range 2>/dev/null) || { said=$(git rev-list $range 2>&1); complain corrupt; }
    state=''
    while IFS= read -r line; do state=$state$line$nl; done
    case $news in
    '') tip=$head ;;
    '>'*) tip=${news%%"$nl"*} tip=${tip#>} ;;
    *) tip=$(git rev-parse "$fetched") ;;
    esac
    target=$tip
    expect_no_history
    # shellcheck disable=SC2086 # a commit is a word
    how_many $news
    if [ -n "$asked" ] && [ "$asked" != "$tip" ]; then
        if git merge-base --is-ancestor "$asked" "$tip" 2>/dev/null; then
            target=$asked
        else
            remark='; the commit that was asked for is not on it'
        fi
        commits=$(git rev-list --count "$target" ${head:+"^$head"})
    fi
    expect_signed
    expect_clean "$@"
    # git merge expects room itself, unless HEAD is yet to be born
    [ "$commits" -eq 0 ] || ! { $plan || [ -z "$head" ]; } || expect_room
    if [ "$commits" -gt 0 ] && ! $plan; then
        move
        follow
        reached=$target
    fi
    if $submodules && ! $plan; then
        said=$(git submodule update --init --recursive --checkout 2>&1) || complain fetch_failed \
            "$branch is where it is to be, its submodules are not" 'git submodule update --init --recursive'
    fi
    mention
    count "$commits" commit
    [ "$commits" -gt 0 ] || conclude up_to_date "$branch has all that the remote has"
    ! $plan || conclude ok "$branch can move on by $counted"
    conclude ok "$branch moved on by $counted"
}

# The command line. In the end "$@" is what --ignore-dirty names, as git's pathspecs.
left=$# operands=0
while [ "$left" -gt 0 ]; do
    word=$1
    shift
    left=$((left - 1))
    case $word in
    --plan) plan=true ;;
    --json) json=true ;;
    --submodules) submodules=true ;;
    --allow-file) local_remotes=always ;;
    --ignore-dirty)
        [ -n "${1-}" ] || usage '--ignore-dirty needs a GLOB'
        set -- "$@" ":(exclude,top,glob)$1"
        shift
        left=$((left - 1))
        ;;
    --allowed-signers)
        [ -r "${1-}" ] || usage '--allowed-signers needs a FILE that can be read'
        case $1 in /*) signers=$1 ;; *) signers=$PWD/$1 ;; esac
        shift
        left=$((left - 1))
        ;;
    -*) usage "$word: no such option, and names do not begin with a dash" ;;
    *)
        operands=$((operands + 1))
        case $operands in 1) dir=$word ;; 2) branch=$word ;; 3) asked=$word ;; esac
        ;;
    esac
done
case $operands in 2 | 3) ;; *) usage 'DIR and BRANCH are needed, SHA may follow' ;; esac
[ -n "$dir" ] || usage 'DIR is empty'
case /$branch/ in # the rules of git-check-ref-format(1)
*//* | */.* | *.lock/* | *./ | *..* | *@\{* | /@/ | /HEAD/ | *[[:cntrl:]]* | *[\ ~^:?*\[\\]*)
    usage "$branch: no branch has such a name"
    ;;
esac
case ${#asked}:$asked in
*:*[!0-9a-f]*) usage "$asked: not a SHA in lower case" ;;
0: | 40:* | 64:*) ;;
*) usage "$asked: not a whole SHA" ;;
esac
command -v git >/dev/null || usage 'git is not installed'

# git's own variables and settings lead nowhere else; the caller's ways to log in stay, and who has one in GIT_ASKPASS
# does not want a helper to be told what it answers.
while IFS= read -r line; do
    name=${line#export }
    case ${name%%=*} in
    GIT_ASKPASS | GIT_SSH | GIT_SSH_COMMAND | GIT_SSH_VARIANT | *[!A-Z_0-9]*) ;;
    GIT_*) unset "${name%%=*}" ;;
    esac
done <<END
$(export -p)
END
unset CDPATH SUDO_UID SSH_ASKPASS
pins=0
while read -r key value; do
    [ -n "$key" ] || continue
    export "GIT_CONFIG_KEY_$pins=$key" "GIT_CONFIG_VALUE_$pins=$value"
    pins=$((pins + 1))
done <<END
protocol.file.allow $local_remotes
protocol.ext.allow never
core.hooksPath /dev/null
core.fsmonitor false
core.untrackedCache false
core.quotePath true
submodule.recurse false
fetch.recurseSubmodules no
gc.auto 0
maintenance.auto false
safe.directory
${GIT_ASKPASS+credential.helper}
END
export GIT_CONFIG_COUNT=$pins GIT_TERMINAL_PROMPT=0 GIT_OPTIONAL_LOCKS=0

# The working copy.
case $0 in /*) script=$0 ;; *) script=$PWD/$0 ;; esac
cd -P -- "$dir" 2>/dev/null || conclude not_a_repository 'there is no such directory, or it is closed to this user'
export GIT_CEILING_DIRECTORIES="${PWD%/*}"
here=$(git rev-parse --is-inside-work-tree --show-prefix --git-dir --- --git-common-dir --- \
    HEAD --symbolic-full-name HEAD '@{upstream}' 2>/dev/null)
case $here in
"true$nl$nl"*) here=${here#"true$nl$nl"} ;;
true*) conclude not_a_repository 'the working copy begins above this directory' 'git rev-parse --show-toplevel' ;;
false*) conclude not_a_repository 'a repository without a working copy, or the inside of one' 'git worktree list' ;;
*)
    said=$(git rev-parse --git-dir 2>&1)
    shell_word "ref: refs/heads/$branch"
    case $said in *'not a git repository'*)
        [ ! -d .git/objects ] || conclude corrupt 'HEAD is damaged' "echo $quoted >.git/HEAD"
        ;;
    esac
    complain not_a_repository 'this is no working copy of git' 'git status'
    ;;
esac
gitdir=${here%%"$nl---$nl"*}
here=${here#*"$nl---$nl"}
common=${here%%"$nl---$nl"*}
{ read -r head && read -r at && read -r upstream; } <<END
${here#*"$nl---$nl"}
END
if [ "$head" = HEAD ]; then # a branch yet to be born, unless its ref is damaged
    head='' upstream=refs/remotes/$(git config "branch.$branch.remote")/$branch
    read -r _ at <"$gitdir/HEAD"
fi
follows=$upstream
case $upstream in refs/remotes/?*/"$branch") ;; *) upstream='' ;; esac
moving=$gitdir/homelab-moving halfway=''
if [ -s "$moving" ]; then
    read -r from to <"$moving"
    [ "$from" != "${head:-none}" ] || halfway=$to
fi

expect_no_lock
expect_nothing_under_way
shell_word "$branch"
[ "$at" != HEAD ] || conclude detached "HEAD is on no branch" "git switch $quoted"
[ "$at" = "refs/heads/$branch" ] || conclude wrong_branch "${at#refs/heads/} is checked out" "git switch $quoted"
[ -n "$head" ] || [ ! -e "$common/refs/heads/$branch" ] || conclude corrupt 'the branch names no commit' \
    "rm \"\$(git rev-parse --git-path refs/heads/$quoted)\"" \
    "git update-ref refs/heads/$quoted refs/remotes/origin/$quoted"
case $follows in refs/heads/*) conclude fetch_failed "it follows ${follows#refs/heads/}, a branch here, and no remote" \
    "git branch --set-upstream-to=origin/$quoted" ;; esac
fetch
trap : HUP INT TERM # they end `decide`, which may have to put something back first
$status 2>&1 | decide "$@" # its first question to git is answered meanwhile
