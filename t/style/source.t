# Habits that a program can check: width of the sources and of what is to be read, length of the sources, syntax of the
# scripts, and that every file is in the lists of Makefile.am.
use strict;
use warnings;
use File::Find ();
use FindBin;
use Test::More;

use constant { WIDTH => 120, LINES => 1000 };

my $top = "$FindBin::Bin/../..";

sub slurp { my ($f) = @_; open(my $in, '<:encoding(UTF-8)', $f) or die "$f: $!\n"; local $/; return <$in> // '' }

my @files;
File::Find::find({ no_chdir => 1, wanted => sub {
	push @files, substr $_, length("$top/") if -f && m{/(?:src|t)/.*\.(?:[ch]|t|p[lm])$} && !m{/\.(?!\./)};
} }, "$top/src", "$top/t");
@files = sort @files;
cmp_ok(scalar @files, '>', 100, 'the sources are found');

my (@wide, @long, @blanks);
for my $file (@files) {
	my @lines = split /\n/, slurp("$top/$file");
	push @long, "$file: " . @lines if @lines > LINES;
	my $n = 0;
	for (@lines) {
		$n++;
		push @blanks, "$file:$n" if /[ \t]\r?$/;
		next unless $file =~ m{^src/};
		push @wide, "$file:$n: " . length if length > WIDTH;
	}
}
is(join("\n", @long), '', 'no file of more than ' . LINES . ' lines');
is(join("\n", @wide), '', 'no source line of more than ' . WIDTH . ' columns');
is(join("\n", @blanks), '', 'no blanks at the end of a line');

@wide = ();
for my $file ('HACKING', 'README', 'NEWS', 'contrib/systemd/connectfs@.service.in', map { s{^\Q$top\E/}{}r } sort glob "$top/src/*/*.[58]") {
	my $n = 0;
	for (split /\n/, slurp("$top/$file")) {
		$n++;
		push @wide, "$file:$n: " . length if length > WIDTH && !/^\|/; # a row of a table can't be cut
	}
}
is(join("\n", @wide), '', '… nor a line of what is to be read');

my ($main, $tests) = map { slurp("$top/$_") } 'Makefile.am', 't/tests.am';
my $makefile = $main . $tests;
my @unlisted = grep { m{^src/.*\.[ch]$} && $makefile !~ /(?<!\S)\Q$_\E(?!\S)/ } @files;
is(join("\n", @unlisted), '', 'Makefile.am lists every file of src');
@unlisted = grep { s{^(t/unit/.*-t)\.c$}{$1} && $makefile !~ /(?<!\S)\Q$_\E(?!\S)/ } @{[@files]};
is(join("\n", @unlisted), '', 'Makefile.am lists every unit test');
cmp_ok(scalar(split /\n/), '<', 200, 'the Makefile is short') for $main, $tests;
cmp_ok(scalar(split /\n/, slurp("$top/configure.ac")), '<', 150, 'configure.ac is short');

for my $script ('bootstrap', '.ci/run', 'contrib/quickstart', 'contrib/check', 't/kernel/init.sh') {
	my ($shell) = slurp("$top/$script") =~ m{^#!/bin/(sh|bash)\n};
	ok(-x "$top/$script" && $shell && system("/bin/$shell", '-n', "$top/$script") == 0, "$script is a script without syntax errors");
}
for my $part ('contrib/quickstart.d/files', 'contrib/quickstart.d/vault') { # which quickstart reads
	ok(system('/bin/sh', '-n', "$top/$part") == 0, "$part has no syntax errors");
}
done_testing();
