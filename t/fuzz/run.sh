# make fuzz: builds the sources given, and each fuzzer of this folder against them, and runs it for SECONDS_EACH.
# In the build directory; what a fuzzer finds interesting is kept there in fuzz/.
set -u
flags='-g -O1 -fsanitize=address,undefined -fno-sanitize-recover=all -fno-omit-frame-pointer'
rm -rf fuzz/obj fuzz/lib.a && mkdir -p fuzz/obj || exit 1
export CC flags srcdir
for f; do
	case $f in *.c) echo "$f" ;; esac
done | xargs -P "$JOBS" -I{} sh -c \
	'exec $CC $flags -fsanitize=fuzzer-no-link -c -o "fuzz/obj/$(echo {} | tr / _).o" "$srcdir/{}"' || exit 1
$AR cr fuzz/lib.a fuzz/obj/*.o || exit 1
rc=0
for f in "$srcdir"/t/fuzz/*.c; do
	n=$(basename "$f" .c)
	mkdir -p "fuzz/$n.corpus"
	echo "$n: $SECONDS_EACH s"
	# shellcheck disable=SC2086
	$CC $flags -fsanitize=fuzzer -o "fuzz/$n" "$f" fuzz/lib.a $LIBS &&
		"fuzz/$n" -max_total_time="$SECONDS_EACH" -timeout=10 -rss_limit_mb=4096 -artifact_prefix="fuzz/$n-" \
			-verbosity=0 -print_final_stats=1 "fuzz/$n.corpus" || rc=1
done
exit $rc
