# The man pages: mandoc finds nothing but matters of taste in them.
use strict;
use warnings;
use FindBin;
use Test::More;

my $top = "$FindBin::Bin/../..";
my ($mandoc) = grep { -x } map { "$_/mandoc" } split /:/, $ENV{PATH};
plan skip_all => 'mandoc is not installed' unless $mandoc;

# Taste: our lines are longer than 80; the manual beside it isn't installed while it is built
my $taste = qr/input text line longer than 80|referenced manual not found|no blank before trailing delimiter|outdated mandoc\.db/;
for my $page (sort glob "$top/src/*/*.[58]") {
	(my $name = $page) =~ s{^\Q$top\E/}{};
	my @found = grep { !/$taste/ } `$mandoc -T lint -W style '$page' 2>/dev/null`;
	is(join('', @found), '', $name);
}
done_testing();
