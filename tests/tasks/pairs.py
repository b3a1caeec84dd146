r"""Pairs of an answer and a gold one, kind by kind, with the verdict of mathematics.

`RIGHT` and `WRONG` name kinds; each line of a kind is `answer | gold`. A line is read as it stands, so LaTeX needs no escapes.
"""

RIGHT = {
    "matrices": r"""
\begin{pmatrix}-7\\16\\5\end{pmatrix} | \begin{pmatrix} -7 \\ 16 \\ 5 \end{pmatrix}
\begin{bmatrix} -7 \\ 16 \\ 5 \end{bmatrix} | \begin{pmatrix} -7 \\ 16 \\ 5 \end{pmatrix}
\left(\begin{array}{c} -7 \\ 16 \\ 5 \end{array}\right) | \begin{pmatrix} -7 \\ 16 \\ 5 \end{pmatrix}
\begin{pmatrix} -7 \\[2pt] 16 \\ 5 \\ \end{pmatrix} | \begin{pmatrix} -7 \\ 16 \\ 5 \end{pmatrix}
\begin{pmatrix} -0.2 \\ \frac{2}{3} \end{pmatrix} | \begin{pmatrix} -1/5 \\ 2/3 \end{pmatrix}
\frac{1}{49} \begin{pmatrix} 16 \\ 48 \\ 24 \end{pmatrix} | \begin{pmatrix} 16/49 \\ 48/49 \\ 24/49 \end{pmatrix}
-\begin{pmatrix} 1 & 0 \\ 0 & 1 \end{pmatrix} | \begin{pmatrix} -1 & 0 \\ 0 & -1 \end{pmatrix}
\begin{pmatrix} \frac{\sqrt 2}{2} & 0 \\ 0 & 1 \end{pmatrix} | \begin{pmatrix} \frac{1}{\sqrt{2}} & 0 \\ 0 & 1 \end{pmatrix}
""",
    "mixed numbers": r"""
1 1/2 | 3/2
1 1/2 | \frac{3}{2}
7 3/4 | \frac{31}{4}
1\frac{3}{4} | 7/4
1\frac{3}{4} | \frac{7}{4}
1\frac34 | 1.75
-1\frac{1}{2} | -\frac{3}{2}
137 \frac{1}{2} | 137.5
137\frac12 | \frac{275}{2}
2½ | \frac{5}{2}
1\ 1/2 | 1.5
2\frac{x}{3} | \frac{2x}{3}
2\frac{\pi}{3} | \frac{2\pi}{3}
2\cdot\frac{1}{2} | 1
""",
    "names and equations": r"""
x=5 | 5
x = 5 | 5
5 = x | 5
x_1 = 5 | 5
f(x) = x^2 + 1 | x^2+1
f^{-1}(x) = \frac{x}{2} | \frac{x}{2}
\theta = 30^\circ | 30^\circ
5 | x=5
2x-y+3=0 | y = 2x + 3
y-2x=3 | y = 2x + 3
2x + 3 = y | y = 2x + 3
2y = 4x + 6 | y = 2x + 3
y + 2x = 0 | y = -2x
5x - 7y + 11z = -4 | 5x - 7y + 11z + 4 = 0
-10x + 14y - 22z - 8 = 0 | 5x - 7y + 11z + 4 = 0
(x-1)^2 + y^2 = 4 | x^2 - 2x + y^2 = 3
x = \frac{10}{4} = 2.5 | \frac{5}{2}
2 + 3 = 5 | 5
\binom{5}{2} = 10 | 10
""",
    "inequalities": r"""
x \leq 5 | x\le 5
5 \ge x | x \le 5
x>2 | (2,\infty)
2 < x | (2,\infty)
x > 2 | (2,+\infty)
x \ge 2 | [2,\infty)
x ≤ 0 | (-\infty, 0]
-2 \le x \le 7 | x \in [-2,7]
-2 \leq x \leq 7 | [-2,7]
7 \ge x \ge -2 | [-2,7]
3 < x \le 4 | (3,4]
x \in (2,4) | (2,4)
(-\infty,\infty) | \mathbb{R}
x \in \mathbb{R} | (-\infty,\infty)
ℝ | \mathbb{R}
\text{all real numbers} | \mathbb{R}
x < 2 \text{ or } x > 3 | (-\infty, 2) \cup (3, \infty)
(3, \infty) \cup (-\infty, 2) | (-\infty, 2) \cup (3, \infty)
0 < x < 9 or 9 < x < 36 | (0,9) \cup (9,36)
x > 2 \text{ and } x < 5 | (2,5)
y < x + 1 | x - y > -1
2y < 2x + 2 | y < x + 1
x \ne 5 | x \neq 5
\left[ -2, 7 \right] | [-2,7]
""",
    "roots": r"""
\sqrt 2 | \sqrt{2}
\sqrt2 | \sqrt{2}
\sqrt {19} | \sqrt{19}
\sqrt 19 | \sqrt{19}
√5 | \sqrt{5}
√15 | \sqrt{15}
\sqrt\pi | \sqrt{\pi}
\sqrt\frac12 | \frac{\sqrt{2}}{2}
\frac{2}{\sqrt 3} | \frac{2\sqrt{3}}{3}
\sqrt[3]{24} | 2\sqrt[3]{3}
\sqrt[3] 3 | 3^{1/3}
10\sqrt 2 | 10\sqrt{2}
70√2 | 70 \sqrt{2}
\sqrt{50} | 5\sqrt{2}
sqrt(5) | \sqrt{5}
2^{1/2} | \sqrt{2}
\sqrt{3+2\sqrt{2}} | 1+\sqrt2
\sqrt[3]{-8} | -2
\frac{\sqrt{3}}{3} | \frac{1}{\sqrt 3}
11√5 + 11 | 11 \sqrt{5} + 11
""",
    "fractions and decimals": r"""
\frac{a}b | \frac{a}{b}
\frac a b | \frac{a}{b}
a/b | \frac{a}{b}
\frac9{19} | \frac{9}{19}
\frac 59 | \frac{5}{9}
5/9 | \frac 59
6.72 \times 10^{-5} | .0000672
6.72 × 10^{-5} | .0000672
6.72 \cdot 10^{-5} | .0000672
0.\overline{3} | \frac{1}{3}
0.1\overline{6} | 1/6
0.35625 | .35625
\frac{57}{160} | .35625
½ | 0.5
1 ÷ 2 | \frac{1}{2}
\frac{-1}{2} | -\frac{1}{2}
-\frac{-1}{-2} | -\frac{1}{2}
10,\!080 | 10080
10,080 | 10,\!080
1{,}250 | 1250
11111111100 | 11,\! 111,\! 111,\! 100
7! \times 2! | 10,\!080
""",
    "lists": r"""
1+\sqrt{19},1-\sqrt{19} | 1 \pm \sqrt{19}
1-\sqrt{19}, 1+\sqrt{19} | 1 \pm \sqrt{19}
x = 1 \pm \sqrt{19} | 1 \pm \sqrt{19}
1 ± √19 | 1 \pm \sqrt{19}
1 \text{ and } -2 | 1,-2
1 or -2 | 1,-2
1 and/or -2 | 1,-2
-2, 1 | 1,-2
x = 1, x = -2 | 1,-2
x=1 \text{ or } x=-2 | 1,-2
x = 1, -2 | 1,-2
$1$ and $-2$ | 1,-2
\{1, -2\} | 1,-2
3, 5, \text{ and } 7 | 3, 5, 7
3, 5, and 7 | 3, 5, 7
7; 5; 3 | 3, 5, 7
3,5,7 | 3, 5, 7
\{1+\sqrt{5}, 1-\sqrt{5}, -2\} | \{1\pm\sqrt{5},-2\}
-2, 1 \pm \sqrt{5} | \{1\pm\sqrt{5},-2\}
\pm 3 | 3, -3
\pm3 | -3,3
7, 7 | 7, 7
(11,7) \text{ or } (7,11) | (7,11), (11,7)
(7,11),(11,7) | (11,7) \text{ or } (7,11)
""",
    "tuples": r"""
(p,q,r) = (6,31,-1) | (6,31,-1)
p=6, q=31, r=-1 | (6,31,-1)
p = 6, q = 31, \text{ and } r = -1 | (6,31,-1)
x=8, y=-2 | (8,-2)
y=-2, x=8 | (8,-2)
x=8 \text{ and } y=-2 | (8,-2)
(x,y) = (8,-2) | (8,-2)
x=8, y=-2 | (x,y) = (8,-2)
\left( 8, -2 \right) | (8,-2)
(1.5, -13) | \left( \frac{3}{2}, -13 \right)
(3, π/2) | \left( 3, \frac{\pi}{2} \right)
(\frac{6}{2}, \frac\pi2) | \left( 3, \frac{\pi}{2} \right)
\langle 1, 2 \rangle | (1,2)
""",
    "units": r"""
15 cm | 15
15 dollars | 15
15 people | 15
10 cm^2 | 10
15 m/s | 15
15 m | 15
15\text{ m} | 15
15 | 15\mbox{ cm}^2
15 cm^2 | 15\mbox{ cm}^2
15 square centimeters | 15\mbox{ cm}^2
15\,\mathrm{cm}^2 | 15\mbox{ cm}^2
15 \text{ sq cm} | 15\mbox{ cm}^2
864 in^2 | 864 \mbox{ inches}^2
864 \text{ square inches} | 864 \mbox{ inches}^2
5.4 | 5.4 \text{ cents}
5.4 cents | 5.4 \text{ cents}
\frac{270}{7}^\circ | \frac{270}7\text{ degrees}
\frac{270}{7} | \frac{270}7\text{ degrees}
90 degrees | 90^\circ
90 | 90^\circ
90° | 90^{\circ}
\$36 | 36
36 dollars | \$36
$18.90 | \$18.90
18.9 | \$18.90
\$32,348 | \$32,\!348
32348 dollars | \$32,\!348
25\% | 25
25% | 25\%
25 percent | 25\%
30 miles per hour | 30\text{ mph}
2 million | 2{,}000{,}000
2 million | 2000000
2\text{ million dollars} | \$2,\!000,\!000
2 dozen | 24
5\text{ dozen} | 60
60 \text{ eggs} | 5\text{ dozen}
3 hundred | 300
12 \text{ apples} | 12 \text{ apple}
""",
    "algebra": r"""
(b+2)(a+5) | (a+5)(b+2)
ab + 2a + 5b + 10 | (a+5)(b+2)
q(-1) + p | p - q
1 - x + x^2 - x^3 + x^4 - x^5 | -x^5 + x^4 - x^3 + x^2 - x + 1
5r^5 | 5 r^{5}
5r^5 | 5\cdot r^5
\frac{9a}{20} + \frac{11}{20} | \frac{11+9a}{20}
\frac{\cos x}{\sin x} | \cot x
\cot(x) | \cot x
\frac{1}{\tan x} | \cot x
288π | 288 \pi
3 R^2 | 3R^2
\frac{20000}{π} | \frac{20000}{\pi}
6+9i | 9i+6
(1+2i) | 1+2i
2(3-\frac{i}{2}) | 6 - i
\frac{1}{2}(1+i)^2 | i
e^{x}e^{-x} | 1
\ln e^2 | 2
\log_2 8 | 3
\sin^2 x + \cos^2 x | 1
\sin 30^\circ | \frac{1}{2}
|x|^2 | x^2
|-3| | 3
5! | 120
\binom{6}{2} | 15
2k + 2 | 2(k+1)
x^10 | x^{10}
""",
    "words": r"""
Evelyn | \text{Evelyn}
\text{evelyn} | \text{Evelyn}
\textbf{Evelyn} | \text{Evelyn}
east. | \text{east}
\mathrm{even} | \text{even}
an ellipse | \text{ellipse}
C | \text{(C)}
(C) | \text{(C)}
\text{C} | \text{(C)}
\textbf{(C)} | \text{(C)}
""",
    "other": r"""
–3 | -3
−3 | -3
- 3 | -3
∞ | \infty
4343_{6} | 4343_6
1101_{2} | 1101_2
3:2 | 3 : 2
$x+1$ | x+1
\(x+1\) | x+1
\[ x+1 \] | x+1
x+1. | x+1
\displaystyle \frac{1}{2} | \frac12
\mathbf{5} | 5
\text{12} | 12
**12** | 12
\boxed{12} | 12
2\sqrt{3} \approx 3.46 | 2\sqrt{3}
""",
    "usual ways": r"""
\frac{1}{2}, \frac{3}{4} | 0.5, 0.75
x = 5 \text{ cm} | 5
x \in (-\infty, 0) \cup (0,\infty) | (-\infty,0)\cup(0,\infty)
\left\{ 1, 2 \right\} | \{1,2\}
-\frac{1}{2}\sqrt{3} | -\frac{\sqrt{3}}{2}
\frac{-\sqrt{3}}{2} | -\frac{\sqrt{3}}{2}
-\sqrt{3}/2 | -\frac{\sqrt{3}}{2}
\frac{i\sqrt3}{2} | \frac{\sqrt{3}}{2}i
10^6 | 1,000,000
x \neq 2 | (-\infty,2)\cup(2,\infty)
\mathbb{R} \setminus \{2\} | (-\infty,2)\cup(2,\infty)
\mathbb{R} \setminus \{-2, 2\} | (-\infty,-2)\cup(-2,2)\cup(2,\infty)
12\pi \text{ square units} | 12\pi
8 units | 8
1.5 | \$1.50
3.0 | 3
3. | 3
2:30 p.m. | 2:30 \text{ p.m.}
(x+1)/(x-1) | \frac{x+1}{x-1}
x^2 + x^{-2} | x^2+\frac{1}{x^2}
n(n+1)/2 | \frac{n(n+1)}{2}
\frac{n!}{k!(n-k)!} | \binom{n}{k}
\sin\frac{\pi}{6} | \frac{1}{2}
\cos(\pi/3) | \frac{1}{2}
(x^2+1)^{1/2} | \sqrt{x^2+1}
\tan^{-1} x | \arctan x
0.5 \cdot 10^3 | 500
4-x^2 | -x^2+4
\frac{\ln 3}{2} | \frac{1}{2}\ln 3
x - 2y = 6 | y = \frac{1}{2}x - 3
r = 2\cos(\theta) | r = 2\cos\theta
2\mathbf{j} + \mathbf{i} | \mathbf{i} + 2\mathbf{j}
A = \begin{pmatrix} 1 \\ 2 \end{pmatrix} | \begin{pmatrix} 1 \\ 2 \end{pmatrix}
A, C | \text{A, C}
yes | \text{Yes}
1.2 \times 10^4 | 12000
\pi r^2 h / 3 | \frac{1}{3}\pi r^2 h
\frac{\pi r^2 h}{3} | \frac13 \pi r^2 h
\frac{\pi}{4} + n\pi | n\pi + \frac{\pi}{4}
x=-1 \text{ or } 3 | -1, 3
\{-1, 3\} | x=-1,3
x^2+x-6=0 | (x-2)(x+3)=0
9.8\,\text{m}/\text{s}^2 | 9.8 \text{ m/s}^2
2\frac{1}{2} \text{ hours} | 2.5
2 1/2 hours | 2.5 \text{ hours}
\sqrt{-4} | 2i
\text{no solution} | \text{No solution}
\begin{bmatrix} 1 & 2 \\ 3 & 4 \end{bmatrix} | \begin{pmatrix} 1 & 2 \\ 3 & 4 \end{pmatrix}
(2, 3) \text{ and } (4, 5) | (2,3),(4,5)
\left(\frac{1}{2}, \frac{3}{4}\right) | (0.5,0.75)
-1 < x < 1 | (-1,1)
|x| < 1 | |x|<1
\frac{2x+1}{3} | \frac{1}{3}(2x+1)
x=1,y=2,z=3 | (1,2,3)
x = 1 \\ y = 2 | (1,2)
$(1, 2)$ | (1,2)
\textbf{12} | 12
12 \mbox{ cm} | 12 \text{ cm}
5 \times 10^{-3} | 0.005
\log_{10} 100 | 2
\frac{\log 8}{\log 2} | 3
\text{12 cm} | 12
\text{ Evelyn } | \text{Evelyn}
3{,}000 | 3000
1\,000\,000 | 1000000
45^{\circ} | 45^\circ
45\degree | 45^\circ
45^o | 45^\circ
\frac{\pi}{4} | 45^\circ
\frac{1}{\sqrt{2}} | \frac{\sqrt{2}}{2}
x^{2}y | yx^2
6x^2 + 5x - 4 | (2x-1)(3x+4)
\sqrt[4]{16} | 2
\cos^2\theta - \sin^2\theta | \cos 2\theta
-(x-3) | 3-x
2^{3} \cdot 3^{2} | 72
(3+4)(2) | 14
4! \cdot 3 | 72
\dfrac{a^2b}{c} | \frac{ba^2}{c}
a^{m+n} | a^m a^n
k=3 | 3
6\text{ ways} | 6
36\,\text{in}^2 | 36
0.75 | 75\%
3/4 | 75\%
24\pi\text{ cm}^3 | 24\pi
(-\infty, \frac{1}{2}] | (-\infty,0.5]
x \leq \frac{1}{2} | (-\infty,0.5]
[1,2] \cup [3,4] | 1 \le x \le 2 \text{ or } 3 \le x \le 4
1.\overline{6} | \frac{5}{3}
0.\overline{142857} | \frac17
16:25 | 16:25
2, 3, 5, \dots | 2,3,5,\ldots
\frac{3}{5} + \frac{4}{5}i | \frac{3+4i}{5}
e^{i\pi/3} | \frac{1}{2} + \frac{\sqrt3}{2} i
\operatorname{cis} 30 | \operatorname{cis} 30
5 cm | 5\text{cm}
\mathrm{5} | 5
\text{one} | one
x=2, x=3 | \{2,3\}
\{(1,2),(3,4)\} | (3,4), (1,2)
(1,2);(3,4) | (1,2),(3,4)
a = 1, b = 2 | (a,b) = (1,2)
y = 3 | y=3
y=x^2 | y = x^2
2 \pm \sqrt3 | 2+\sqrt{3}, 2-\sqrt{3}
\frac{-1 \pm \sqrt{5}}{2} | \frac{-1+\sqrt5}{2},\frac{-1-\sqrt5}{2}
\frac{-1 \pm i\sqrt{3}}{2} | -\frac12 \pm \frac{\sqrt3}{2} i
\pm 1, \pm 2 | 1,-1,2,-2
7^{\text{th}} | 7^{\text{th}}
6th | 6th
20\text{ cm/s} | 20
\frac{1}{4}\text{ mile} | 1/4
5 \; \text{units} | 5
4\sqrt{2}\ \text{cm} | 4\sqrt2
""",
    "further ways": r"""
x_1 = 3, x_2 = -2 | -2, 3
€5 | 5
5 euros | €5
\frac{100!}{98!} | 9900
999! | 999 \cdot 998!
x_1 = 3 | 3
x^{\frac{2}{3}} | \sqrt[3]{x^2}
\sin{x}\cos{x} | \frac{1}{2}\sin{(2x)}
\log_{5}{25} | 2
a_n = 2n+1 | 2n+1
y - 3 = 2(x - 1) | y = 2x+1
4x^2+9y^2=36 | \frac{x^2}{9} + \frac{y^2}{4} = 1
2x+3y-12=0 | y=-\frac{2}{3}x+4
(-\infty,-14)\cup(-3,\infty) | x<-14 \text{ or } x>-3
10\% | 0.1
1 + \frac{1}{2} | \frac32
6\,\text{m/s} | 6
\left(-\infty, \frac{1}{2}\right) | x < \frac12
2^{78} | 302231454903657293676544
\tan{45^\circ} | 1
\cos 60^\circ | 0.5
A = 5 \text{ cm}^2 | 5
\text{A} | (A)
1\frac{1}{2} \text{ hours} | \frac{3}{2}
\frac{1}{1-x} | \frac{-1}{x-1}
""",
    "letters in text": r"""
3+2\mathrm{i} | 3+2i
\mathrm{e}^{x} | e^x
\operatorname{sin} x | \sin x
5\text{x} | 5x
20\text{ N} | 20
5 times | 5
""",
    "as models write": r"""
x = 3 \text{ and } y = -2 | (3,-2)
(x, y) = \left(3, -2\right) | (3,-2)
\left(x, y\right) = (3,-2) | (3,-2)
x=\pm 3 | 3, -3
-3 \text{ and } 3 | \pm 3
3 \text{ or } -3 | \pm 3
p = 6,\ q = 31,\ r = -1 | (6,31,-1)
\boxed{(6,31,-1)} | (6,31,-1)
p=6,q=31,r=-1 | (p,q,r)=(6,31,-1)
(11,7), (7,11) | (11,7) \text{ or } (7,11)
(7,11) and (11,7) | (11,7) \text{ or } (7,11)
x\in[-2,7] | -2\leq x\leq 7
\{x \mid -2 \le x \le 7\} | [-2,7]
\{ x \in \mathbb{R} : x > 2 \} | (2,\infty)
\{x : x \neq 0\} | (-\infty,0)\cup(0,\infty)
x \neq 0 | x \ne 0
\text{all real numbers} | (-\infty,\infty)
(-\infty,+\infty) | \mathbb{R}
-\infty < x < \infty | \mathbb{R}
x\ge2 | [2,\infty)
\sqrt{\frac12} | \sqrt\frac12
\frac{\sqrt 2}{\sqrt 3} | \frac{\sqrt6}{3}
\sqrt[3]{81} | 3\sqrt[3]{3}
5\sqrt[4]{2} | \sqrt[4]{1250}
0.333... | 0.333...
0.\overline{12} | \frac{4}{33}
0.\bar{3} | \frac13
0.\dot{3} | \frac13
4.5\times10^{-3} | 0.0045
4.5 \times 10^3 | 4500
3.5 million | 3500000
3.5\times 10^6 | 3.5 \text{ million}
10 square cm | 10
15 meters per second | 15
15 miles | 15 \text{ mi}
7 minutes | 7
7 min | 7 \text{ minutes}
\$7 | 7 \text{ dollars}
7 cents | 7
36 inches | 36 \text{ in}
1,234,567 | 1234567
\frac{1,000}{3} | \frac{1000}{3}
x^2 - 2x + 1 = 0 | (x-1)^2 = 0
0 = 2x - y + 3 | y = 2x+3
y = 2x + 3 | 2x-y+3=0
4x - 2y + 6 = 0 | y = 2x+3
\begin{pmatrix} 1 \\ 23 \end{pmatrix} | \begin{pmatrix} 1\\23 \end{pmatrix}
\begin{pmatrix} 1 \\\\ 23 \end{pmatrix} | \begin{pmatrix} 1\\23 \end{pmatrix}
\left[\begin{matrix} 1 \\ 23 \end{matrix}\right] | \begin{pmatrix} 1\\23 \end{pmatrix}
\begin{Bmatrix} 1 \end{Bmatrix} | \begin{Bmatrix} 1 \end{Bmatrix}
\text{Evelyn.} | \text{Evelyn}
\text{(C) } | C
(C). | \text{(C)}
2^{-3} | \frac18
3^{\frac12} | \sqrt3
\tfrac{7}{4} | 1\tfrac34
1 \frac{3}{4} | \frac{7}{4}
1 + \frac{3}{4} | 1\frac34
-7 3/4 | -\frac{31}{4}
-7\frac{3}{4} | -7.75
- \frac{31}{4} | -7\frac34
30{}^\circ | 30^\circ
30 ^\circ | 30^\circ
12, 15, and 18 | 12,15,18
12; 15 | 12,15
1 \quad\text{and}\quad 2 | 1,2
5,\,-5 | -5,5
x=5\text{ or }x=-5 | \pm5
""",
    "matrices again": r"""
\begin{pmatrix} -7 \\ 16 \\ 5 \end{pmatrix} | \begin{pmatrix}-7\\16\\5\end{pmatrix}
\left(\begin{array}{c}-7\\16\\5\end{array}\right) | \begin{pmatrix}-7\\16\\5\end{pmatrix}
\begin{bmatrix}-7\\16\\5\end{bmatrix} | \begin{pmatrix}-7\\16\\5\end{pmatrix}
\begin{pmatrix} \frac13 & 0 \\ 0 & 1 \end{pmatrix} | \begin{pmatrix} 1/3 & 0 \\ 0 & 1 \end{pmatrix}
\left[ \begin{array}{cc} 0 & -1 \\ 1 & 0 \end{array} \right] | \begin{pmatrix} 0 & -1 \\ 1 & 0 \end{pmatrix}
3\begin{pmatrix} 2 \\ 3 \end{pmatrix} | \begin{pmatrix} 6 \\ 9 \end{pmatrix}
\begin{pmatrix} 1 & 2 \\ 3 & 4 \end{pmatrix}. | \begin{pmatrix} 1 & 2 \\ 3 & 4 \end{pmatrix}
$\mathbf{A} = \begin{pmatrix} 1 & 2 \\ 3 & 4 \end{pmatrix}$ | \begin{pmatrix} 1 & 2 \\ 3 & 4 \end{pmatrix}
""",
    "digits and separators": r"""
1, 2 | 1,2
1,234 | 1234
1234 | 1,234
12{,}345 | 12345
12\,345 | 12345
12\!,\!345 | 12345
2 x | 2x
3 x + 2 | 3x+2
\frac{7}{2} | 3\frac{1}{2}
3.5 | 3\frac{1}{2}
3 \frac{1}{2} | \frac{7}{2}
-3\frac12 | -\frac{7}{2}
""",
    "names, relations and lines": r"""
x \leq 5 | x \le 5
5 \ge x | x\le 5
f(2) = 5 | 5
a_{10} = 5 | 5
2x+3 | y = 2x + 3
y - 2x = 3 | y = 2x + 3
y=2x+3 | 2x+3
y^2 + x^2 = 25 | x^2+y^2=25
(y+2)^2+(x-1)^2=9 | (x-1)^2+(y+2)^2=9
x^2+y^2-2x+4y-4=0 | (x-1)^2+(y+2)^2=9
x = y^2/4 | y^2 = 4x
-3x+7y-2=0 | 3x - 7y + 2 = 0
z = x+2y+1 | x + 2y - z + 1 = 0
""",
    "roots again": r"""
\sqrt\frac12 | \frac{\sqrt2}{2}
10\sqrt{2} | 10\sqrt 2
\sqrt{200} | 10\sqrt 2
\sqrt{x} | \sqrt{x}
x^{1/2} | \sqrt{x}
x^{\frac12} | \sqrt{x}
2^{3/4} | \sqrt[4]{8}
5√13 | 5\sqrt{13}
-1+\sqrt{3} | \sqrt{3}-1
\sqrt{6}+\sqrt{2} | \sqrt{2}+\sqrt{6}
\frac{\sqrt{2-\sqrt{3}}}{2} | \frac{\sqrt{6}-\sqrt{2}}{4}
\sqrt{2}\cdot 10 | 10\sqrt{2}
sqrt(45) | 3\sqrt{5}
3*sqrt(5) | 3\sqrt{5}
\sqrt[3] 2 | \sqrt[3]{2}
""",
    "mixed numbers, decimals and powers": r"""
\frac ab | \frac{a}{b}
0.0000672 | 6.72 \times 10^{-5}
0.\overline{3} | \frac13
0.\overline{3} | 1/3
\frac{4}{11} | 0.\overline{36}
\frac{1}{6} | 0.1\overline{6}
0.3\overline{3} | 0.\overline{3}
3.2 \cdot 10^5 | 320000
0.\bar{3} | 0.\overline{3}
1024 | 2^{10}
2^10 | 1024
\dfrac{1}{2} | \frac{1}{2}
\tfrac12 | \frac{1}{2}
0.5 | \frac{1}{2}
.5 | \frac{1}{2}
0.375 | \frac{3}{8}
\frac{6}{16} | \frac{3}{8}
\frac{1}{-2} | -\frac{1}{2}
\frac{1}{16} | 0.0625
""",
    "lists, tuples and intervals": r"""
1 \pm \sqrt{19} | 1+\sqrt{19},1-\sqrt{19}
1 \mp \sqrt{19} | 1 \pm \sqrt{19}
3,-3 | \pm 3
x = \pm 3 | \pm 3
x=3 \text{ or } x=-3 | \pm 3
\{1,-2\} | 1,-2
3, 5, \text{ and } 7 | 3,5,7
7, 5, 3 | 3,5,7
3;5;7 | 3,5,7
(8, -2) | (8,-2)
\left(8,-2\right) | (8,-2)
(11,7) \text{ or } (7,11) | (11,7), (7,11)
(2,\infty) | x>2
(2,+\infty) | (2,\infty)
2<x | (2,\infty)
[-2,7] | x \in [-2,7]
\mathbb{R} | (-\infty, \infty)
x<-1 \text{ or } x>3 | (-\infty,-1)\cup(3,\infty)
(3,\infty)\cup(-\infty,-1) | (-\infty,-1)\cup(3,\infty)
x \neq -1 | (-\infty, -1) \cup (-1, \infty)
\mathbb{R} \setminus \{-1\} | (-\infty, -1) \cup (-1, \infty)
\left[0,1\right) | [0,1)
0 \leq x < 1 | [0,1)
1<x<2 | (1,2)
""",
    "quantities": r"""
2\text{ million} | 2,000,000
2 hundred | 200
15\text{ cm} | 15
15 | 15\text{ cm}
15 cm | 15\text{ cm}
15\ \mathrm{cm}^2 | 15\text{ cm}^2
15\text{ cm} | 15\text{ centimeters}
15\text{ percent} | 15
15\% | 15
15 | 15\%
0.15 | 15\%
15\% | 0.15
90^\circ | 90
90 \text{ degrees} | 90^\circ
90° | 90^\circ
90^{\circ} | 90^\circ
90^{\circ} \text{F} | 90
\$18 | 18
18 | \$18
18 | \$18.00
\$18.5 | 18.50
3 \text{ hours} | 3
3! | 6
""",
    "signs of Unicode": r"""
\boxed{5} | 5
\boxed 5 | 5
boxed{5} | 5
so \boxed{5}. | 5
(2,∞) | (2,\infty)
2×3 | 6
6÷3 | 2
1 \times 10^{-20} | 10^{-20}
π | \pi
90º | 90^\circ
½ | \frac12
x² | x^2
x ≤ 5 | x \le 5
""",
    "polynomials and logarithms": r"""
(x-1)(x+1) | x^2-1
x^2 - 1 | (x-1)(x+1)
(x+1)^2 | x^2+2x+1
(3x+2)(2x-3) | 6x^2-5x-6
(x-3)(x+2) | (x+2)(x-3)
3x+x^3-6 | x^3 + 3x - 6
4-3x | -3x+4
x^3(x^2-x+1) | x^5 - x^4 + x^3
0.5x + 0.5 | \frac{x+1}{2}
2i+3 | 3+2i
\frac{1+i\sqrt{3}}{2} | \frac{1}{2}+\frac{\sqrt{3}}{2}i
\frac{1}{i} | -i
\frac12+\frac{\sqrt3}{2}i | e^{i\pi/3}
\frac{3}{1+x} | \frac{3}{x+1}
\frac{\ln 3}{\ln 2} | \log_2 3
\log_e 2 | \ln 2
3\ln 2 | \ln 8
\frac1x | x^{-1}
b + a | a+b
ba | ab
3a \cdot b | 3ab
10 | \binom{5}{2}
\binom{5}{3} | 10
3 | \lfloor 3.5 \rfloor
\lceil 3.5 \rceil | 4
""",
    "trigonometry": r"""
\tan 30^\circ | \frac{\sqrt{3}}{3}
\arcsin\frac12 | \frac{\pi}{6}
\pi/6 | \frac{\pi}{6}
1-\cos^2 x | \sin^2 x
\sin 2x | 2 \sin x \cos x
(2, \pi/3) | \left( 2, \frac{\pi}{3} \right)
""",
    "geometry": r"""
\pi \cdot 25 | 25\pi
25 \pi \text{ square units} | 25\pi
36\pi \text{ cm}^3 | 36\pi
12.5\pi | \frac{25\pi}{2}
16(4-\pi) | 64-16\pi
2(2+\sqrt3) | 4+2\sqrt{3}
3 : 4 | 3:4
""",
    "number theory": r"""
52_{8} | 52_8
2516_{8} | 2516_8
\text{AB}_{16} | AB_{16}
24 | 2^3 \cdot 3
144 | 2^4 \cdot 3^2
3^2 \times 2^4 | 2^4 \cdot 3^2
""",
    "choices, names and times": r"""
\text{C} | C
\text{Evelyn} | \text{Evelyn}
evelyn | \text{Evelyn}
even | \text{even}
Friday | \text{Friday}
6:30 p.m. | 6\text{:}30\text{ p.m.}
10:30 | 10:30
parabola | \text{parabola}
A, C | \text{A,C}
June 20 | \text{June 20}
""",
    "one number in many ways": r"""
$7$ | 7
\(7\) | 7
\[7\] | 7
7. | 7
$7$. | 7
7.0 | 7
7.00 | 7
x = 7 | 7
$x=7$ | 7
\text{7} | 7
\mathbf{7} | 7
**7** | 7
{7} | 7
(7) | 7
+7 | 7
07 | 7
\frac{7}{1} | 7
3+4 | 7
3+4=7 | 7
7=7 | 7
7 = x | 7
7\\ | 7
7 \, | 7
\left(7\right) | 7
7 units | 7
7\text{ units}^2 | 7
07.0 | 7
\displaystyle 7 | 7
7^\circ | 7
7\cdot 1 | 7
7\text{ } | 7
\{\} | \emptyset
-0 | 0
\{3,2,1\} | \{1,2,3\}
1,2,3 | \{1,2,3\}
50\% | 50
\frac12 | 50\%
12\frac{1}{2} | 12.5
12 + \frac12 | 12\frac12
10^3 | 1000
(3.0,4.0) | (3,4)
$(3, 4)$. | (3,4)
(0.5, 3) | \left(\frac{1}{2},3\right)
""",
    "words, orders and equations": r"""
3\text{ per cent} | 3
=3 | 3
|3| | 3
-(-3) | 3
3^1 | 3
3_{10} | 3
2.\overline{9} | 3
1/(2x) | \frac{1}{2x}
x \in (-5, 5) | (-5,5)
-5<x<5 | (-5,5)
-5<=x<=5 | [-5,5]
-5 ≤ x ≤ 5 | [-5,5]
1 | x=1
x=1.0 | x=1
{1,2,3} | 1,2,3
a=1 \text{ or } a=2 | 1, 2
(3,4),(1,2) | (1,2),(3,4)
\{(1,2),(3,4)\} | (1,2),(3,4)
(1,2) and (3,4) | (1,2),(3,4)
\frac{\pi}{2}+2n\pi | \frac{\pi}{2}+2\pi n
y = 1 + x | y=x+1
y-x-1=0 | y=x+1
-x^2-y^2=-1 | x^2+y^2=1
9x^2+4y^2=36 | \frac{x^2}{4}+\frac{y^2}{9}=1
\sqrt{-1} | i
e^{2} | e^2
\log_{10} 2 | \log 2
\frac{1}{\log_2 3} | \log_3 2
0.50 | 0.5
4/2 | 2
\sqrt{4} | 2
\sqrt[3]{8} | 2
A. | \text{(A)}
\text{Monday.} | \text{Monday}
monday | \text{Monday}
3 p.m. | 3\text{ p.m.}
5 sq. ft. | 5\text{ ft}^2
5 sq. ft. | 5
5 sq ft | 5
5\text{ cm}^{2} | 5
5~\text{cm} | 5
5\,\text{cm} | 5
5 \mathrm{~cm} | 5
5\;\mathrm{cm} | 5
5 \ \text{cm} | 5
5 euros | 5
£5 | 5
5$ | 5
$5 | 5
5 cents | 5
5\text{ inches} | 5
5\text{ in.} | 5
5\text{ years old} | 5
5\text{ different ways} | 5
5 \text{ solutions} | 5
\text{5 solutions} | 5
10/2 = 5 | 5
\frac{10}{2} = 5 | 5
5 = \frac{10}{2} | 5
A = 5 | 5
N=5 | 5
""",
    "names, bounds and parts": r"""
g(3)=5 | 5
f(-2) = 5 | 5
5 | f(2)=5
f(2)=5 | f(2)=5
\vec{v}=\begin{pmatrix}1\\2\end{pmatrix} | \begin{pmatrix}1\\2\end{pmatrix}
\mathbf{v}=(1,2) | (1,2)
x\in\mathbb{Z} | x\in\mathbb{Z}
x\in[1,2] | [1,2]
x\in\{1,2\} | \{1,2\}
x\in\{1,2\} | 1,2
\{2,1\} | 1,2
{2,1} | 1,2
3:05 | 3:05
1:100 | 1:100
0:1 | 0:1
x<=3 | x \le 3
x>=3 | x \ge 3
1<=x<3 | [1,3)
90º | 90
3 lakh | 300000
3\text{ fifth graders} | 3\text{ fifth graders}
3 fifth graders | 3
3 quarters | 3
5 sq. in. | 5
= 3 | 3
= x | x
""",
}

WRONG = {
    "matrices": r"""
\begin{pmatrix} 12 \\ 3 \end{pmatrix} | \begin{pmatrix} 1 \\ 23 \end{pmatrix}
\begin{pmatrix} 23 \end{pmatrix} | \begin{pmatrix} 2 \\ 3 \end{pmatrix}
\begin{pmatrix} 2 & 3 \end{pmatrix} | \begin{pmatrix} 2 \\ 3 \end{pmatrix}
\begin{pmatrix} 3 \\ 2 \end{pmatrix} | \begin{pmatrix} 2 \\ 3 \end{pmatrix}
\begin{pmatrix} 2 \\ 3 \\ 0 \end{pmatrix} | \begin{pmatrix} 2 \\ 3 \end{pmatrix}
\begin{pmatrix} 1 & 3 \\ 2 & 4 \end{pmatrix} | \begin{pmatrix} 1 & 2 \\ 3 & 4 \end{pmatrix}
\begin{vmatrix} 1 & 2 \\ 3 & 4 \end{vmatrix} | \begin{pmatrix} 1 & 2 \\ 3 & 4 \end{pmatrix}
2 \begin{pmatrix} 2 \\ 3 \end{pmatrix} | \begin{pmatrix} 2 \\ 3 \end{pmatrix}
5 | \begin{pmatrix} 2 \\ 3 \end{pmatrix}
""",
    "digits apart": r"""
1 1/2 | 11/2
1 1/2 | \frac{1}{2}
7 3/4 | 73/4
7 3/4 | \frac{21}{4}
1\frac{1}{2} | \frac{1}{2}
2\frac{1}{2} | 1
1 2 | 12
1 \quad 2 | 12
1\ 2 | 12
1\;2 | 12
5 5 | 55
1, 250 | 1250
1 250 | 1250
1 2 | 2
1 2 | 3
5 \\ 5 | 55
\frac{1}{2}1 | \frac{1}{2}
\pi1 | \pi
x2 | 2x
12 3 | 1 23
1,25 | 125
1,2500 | 12500
3\,00 | 300
""",
    "names and relations": r"""
x<=5 | 5
x>=5 | 5
x \le 5 | 5
x!=5 | 5
x \neq 5 | 5
<=5 | 5
<5 | 5
2x=5 | 5
3!=5 | 5
-x=5 | 5
x-5 | 5
-(x=5) | 5
xy=5 | 5
x+y=5 | 5
x^2=5 | 5
2x=10 | 5
x>=5 | x<=5
x<5 | x \le 5
x>5 | x<5
y=5 | x=5
x \approx 5 | 5
5=6 | 5
5=6 | 6
2+2=5 | 5
x=5=6 | 6
x=5, y=6 | 5
2x-y+3=1 | y = 2x + 3
2x+y+3=0 | y = 2x + 3
y = 3x + 2 | y = 2x + 3
y > 2x + 3 | y = 2x + 3
0 = 0 | y = 2x + 3
y = -2x | y = 2x
x^2+y^2=2 | x^2+y^2=4
y > x + 1 | y < x + 1
-y < -x - 1 | y < x + 1
5x - 7y + 11z - 4 = 0 | 5x - 7y + 11z + 4 = 0
""",
    "intervals": r"""
x<2 | (2,\infty)
x \ge 2 | (2,\infty)
(-\infty,2) | (2,\infty)
x>-2 | (2,\infty)
-2 < x \le 7 | x \in [-2,7]
-2 \le x \le 8 | x \in [-2,7]
-2 \le y \le 7 | x \in [-2,7]
-2, 7 | x \in [-2,7]
(3,4) | (3,4]
[3,4] | (3,4]
(4,3] | (3,4]
(0,\infty) | \mathbb{R}
x < 2 \text{ and } x > 3 | (-\infty, 2) \cup (3, \infty)
(-\infty, 2) | (-\infty, 2) \cup (3, \infty)
(-\infty, 2), (3, \infty) | (-\infty, 2) \cup (3, \infty)
(2,3) | (-\infty, 2) \cup (3, \infty)
(-\infty, 2] \cup (3, \infty) | (-\infty, 2) \cup (3, \infty)
(0,36) | (0,9) \cup (9,36)
2 | (2,\infty)
""",
    "roots": r"""
\sqrt 3 | \sqrt{2}
\sqrt{1}9 | \sqrt{19}
\sqrt{2}0 | \sqrt{20}
√5 | 5
-\sqrt 2 | \sqrt{2}
\sqrt[3]{2} | \sqrt{2}
\sqrt{2}^2 | \sqrt{2}
\sqrt[3]{24} | 2\sqrt{3}
\frac{2}{\sqrt 3} | \frac{\sqrt{3}}{3}
1.414214 | \sqrt{2}
1.41421356237309504880 | \sqrt{2}
\sqrt{2} + 10^{-200} | \sqrt{2}
""",
    "numbers": r"""
10^{-17} | 10^{-18}
10^{-17} | 0
0.00000000000000000001 | 0
1 + 10^{-20} | 1
0.333333 | \frac{1}{3}
0.33333333333333333333 | \frac{1}{3}
0.\overline{3} | 0.3
6.72 \times 10^{5} | .0000672
6.72 | .0000672
3.14 | \pi
3.14159265358979 | \pi
5/9 | \frac{9}{5}
\frac{1}{2}x | \frac{1}{2}
-3 | 3
–3 | 3
03:2 | 3
3:2 | 2:3
1/2x | \frac{1}{2x}
2^{3^2} | 8
""",
    "lists": r"""
1+\sqrt{19} | 1 \pm \sqrt{19}
1-\sqrt{19} | 1 \pm \sqrt{19}
1+\sqrt{19}, 1+\sqrt{19} | 1 \pm \sqrt{19}
1 + \sqrt{19}, 1 - \sqrt{19}, 1 | 1 \pm \sqrt{19}
1,2 | 1,-2
1 | 1,-2
1,-2,-2 | 1,-2
12 | 1,2
(1,-2) | 1,-2
1,-2 | (1,-2)
\{1,-2\} | (1,-2)
3,5 | 3, 5, 7
3,5,7,9 | 3, 5, 7
3,57 | 3, 5, 7
7, 7 | 7
7 | 7, 7
5 or 6 | 5
5 and 6 | 6
5 or 5 | 5
\pm 3 | 3
3 | \pm 3
x=1, x=2 | 1,-2
(11,7) | (11,7) \text{ or } (7,11)
(7,11) \text{ or } (7,11) | (11,7) \text{ or } (7,11)
\{1\pm\sqrt{5}\} | \{1\pm\sqrt{5},-2\}
\{1\pm\sqrt{5},2\} | \{1\pm\sqrt{5},-2\}
""",
    "tuples": r"""
(-2,8) | (8,-2)
(8,2) | (8,-2)
8,-2 | (8,-2)
8 | (8,-2)
(8,-2,0) | (8,-2)
[8,-2] | (8,-2)
(8,-2] | (8,-2)
x=-2, y=8 | (8,-2)
x=8 | (8,-2)
(x,y)=(-2,8) | (8,-2)
(y,x)=(8,-2) | (x,y)=(8,-2)
x=8, x=-2 | (8,-2)
(82) | (8,2)
(p,q,r)=(31,6,-1) | (6,31,-1)
p=6, q=31 | (6,31,-1)
p=31, q=6, r=-1 | (6,31,-1)
(\pi/2, 3) | (3, \frac{\pi}{2})
""",
    "units": r"""
15 cm | 15 \text{ m}
15 cm^3 | 15\mbox{ cm}^2
15 cm | 15\mbox{ cm}^2
15 inches | 15 \text{ feet}
15 m/s | 15 \text{ km/h}
16 cm | 15
15 cents | \$15
15 \text{ cents} | 15 \text{ dollars}
5 million | 5
2 million | 2
2 thousand | 2
2 dozen | 2
2 hundred | 2
5\text{ dozen} | 5
5k | 5
5k | 5000k
18x | 18
A18 | 18
>18 | 18
< 18 | 18
more than 18 | 18
less than 18 | 18
at least 18 | 18
\text{more than } 18 | 18
18 \text{ or more} | 18
18 or less | 18
\text{not } 18 | 18
18\text{ and a half} | 18
half of 18 | 18
90 \text{ radians} | 90^\circ
0.25\% | 25\%
2.5 | 25\%
3 \text{ hours } 20 \text{ minutes} | 3
15 xyz | 15
""",
    "algebra": r"""
x+2 | x+1
x | |x|
\sqrt{x^2} | x
(a+5)(b-2) | (a+5)(b+2)
a+5(b+2) | (a+5)(b+2)
q-p | p-q
5r^4 | 5r^5
5R^5 | 5r^5
r^5 | 5r^5
3r^2 | 3R^2
\tan x | \cot x
\cot y | \cot x
\cot 2x | \cot x
\cos^2 x | \cot x
288 | 288\pi
6-9i | 6+9i
-6+9i | 6+9i
6+9 | 6+9i
x^5 + x^4 + x^3 + x^2 + x - 1 | x^5 - x^4 + x^3 - x^2 + x - 1
2k-2 | 2k+2
2(k+2) | 2k+2
\log 8 | \ln 8
e^2 | \ln 2
\frac{11+9a}{21} | \frac{11+9a}{20}
x^{10} | x^1 0
""",
    "words": r"""
nevely | \text{Evelyn}
seat | \text{east}
west | \text{east}
\text{odd} | \text{even}
-(\text{east}) | \text{east}
not even | \text{even}
B | \text{(C)}
(B) | \text{(C)}
C, D | \text{(C)}
\text{hyperbola} | \text{ellipse}
on | \text{no}
5 | \text{five apples}
""",
    "other": r"""
4343 | 4343_6
4343_7 | 4343_6
4344_6 | 4343_6
52_81 | 52_8
-\infty | \infty
\infty | 5
{5 | 5
5} | 5
\frac{5}{} | 5
\sum_{i=1}^{5} 1 | 5
\text{5 or 6} | 5
""",
    "near misses": r"""
x=1,y=3 | (1,2)
2.30 | 2:30
\frac{1}{2}, \frac{3}{4} | (0.5,0.75)
x = 5 \text{ cm} | 5 \text{ m}
(0,1) | [0,1)
\text{A} | \text{A, C}
\text{Yes} | \text{No}
45^\circ | 46^\circ
45 | \frac{\pi}{4}
n! | n
a_1 | a_2
a_1 | a
x_{12} | x_1
x+1=0 | x=1
0x=0 | x=1
x=x | x=1
x^2=1 | x=1
2,3 | 2,3,5
5\% | 0.5
1.5 | 1.05
\emptyset | 0
\{\} | 0
\{0\} | \emptyset
\mathbb{R} | \mathbb{Z}
\mathbb{Z} | \mathbb{R}
(1,2),(3,4) | (1,2,3,4)
((1,2),(3,4)) | (1,2),(3,4)
1,2,3,4 | (1,2),(3,4)
(12) | (1,2)
16 | 1,6
1.6 | 1,6
3 \cdot 4 | 34
3*4 | 34
34 | 3 4
3^4 | 34
2x | 2
2y+3x | 2x+3y
i | 1
-i | i
e | 2.718281828
\sqrt{2} | 1.41421356237309504880168872420969807856967187537694
\frac{1}{2} \text{ hour} | \frac{1}{2} \text{ minute}
\text{east} | \text{north}
100 | 10^
10^{} | 10
10\_ | 10
\frac{10}{1}0 | 100
5 \text{ or } 6 | 5, 7
1 \le x \le 2 | [1,3]
x>1 | x \ge 1
x>1 | y>1
y=x | y=-x
y>x | y=x
2y>2x | y<x
x=3 | y=3
3 | x \ne 3
3 | x > 3
A | B
a | A
aB | AB
\alpha | \beta
\text{5 apples} | 6
6 | \text{6 or 7}
5.4 \text{ dollars} | 5.4 \text{ cents}
18 \text{ thousand} | 18
half | 1/2 x
1/3 | 0.33
0.67 | \frac23
2k+1 | 2k-1
10101 | 10101_2
21 | 10101_2
1,2,3,... | 1,2,3
f(2) | 2
f(x)=5 | f(y) = 6
\sin 30 | \frac12
\sin x | \sin y
x\sin y | \sin xy
\sin xy | y \sin x
\sqrt{x}y | \sqrt{xy}
\frac{x}{2y} | \frac{x}{2}y
x^{2y} | x^2 y
x^2y | x^{2y}
\text{January 3} | \text{January 13}
5 - 3 | 5, -3
5 -3 | 5, -3
-5, 3 | 5, -3
""",
    "further misses": r"""
x=3 \text{ or } y=2 | (3,2)
x_1 = 3, x_2 = 2 | -2, 3
x < 2 \text{ or } y > 3 | (-\infty,2)\cup(3,\infty)
\pounds5 | 6
€5 | \$5
\frac{1}{1-x} | \frac{1}{x-1}
\sin 60^\circ | 0.5
998! | 999!
302231454903657293676545 | 2^{78}
302231454903657293676544 | 2^{77}
""",
    "letters in text": r"""
3+2\mathrm{i} | 5
5\text{x} | 5
2\mathrm{e} | 2
""",
    "as models miss": r"""
x=-2 \text{ and } y = 3 | (3,-2)
1\frac{3}{4} | \frac{3}{4}
1\frac{3}{4} | \frac{13}{4}
-7 3/4 | -\frac{25}{4}
7\frac{3}{4} | 7\cdot\frac34
3.5 million | 3.5
3.5 thousand | 3500000
2 dozen | 12
15 m/s | 15 \text{ m/s}^2
15 m | 15 \text{ s}
36 inches | 36 \text{ feet}
\frac{1,000}{3} | \frac{1}{3}
0.\overline{12} | 0.12
0.\overline{12} | 0.1\overline{2}
x\ge2 | (2,\infty)
-2<x<7 | [-2,7]
x \neq 0 | x = 0
x \neq 0 | 0
\{x : x > 2\} | (-\infty,2)
(11,7) | (11,7), (7,11)
x=\pm3 | 3
4x - 2y - 6 = 0 | y = 2x+3
y = 2x | y = 2x+3
y < 2x+3 | y = 2x+3
y \ge 2x+3 | y > 2x+3
\begin{pmatrix} 1 23 \end{pmatrix} | \begin{pmatrix} 1\\23 \end{pmatrix}
\begin{pmatrix} 123 \end{pmatrix} | \begin{pmatrix} 1\\23 \end{pmatrix}
(1,23) | \begin{pmatrix} 12\\3 \end{pmatrix}
\begin{pmatrix} 1 & 2 & 3 \end{pmatrix} | \begin{pmatrix} 1 \\ 2 \\ 3 \end{pmatrix}
10^{-17} + 1 | 1
1.0000000000000000000001 | 1
2.0000001 | 2
10^{-300} | 0
-0.00001 | 0
\sqrt[3]{2} | \sqrt[2]{3}
\sqrt{2}3 | \sqrt{23}
\sqrt 23 | \sqrt{2}\cdot 3
3x | x^3
1 \text{ hour } 30 \text{ minutes} | 1 \text{ hour}
twelve | 12 \text{ apples}
12 \text{ or so} | 12
\text{between } 12 \text{ and } 13 | 12
\approx 12 | 12
12+ | 12
12- | 12
12! | 12
12' | 12
12: | 12
""",
    "matrices again": r"""
\begin{pmatrix} 1 \\ 23 \end{pmatrix} | \begin{pmatrix} 12 \\ 3 \end{pmatrix}
\begin{pmatrix} 2 \\ 3 \end{pmatrix} | \begin{pmatrix} 23 \end{pmatrix}
\begin{pmatrix}-7 & 16 & 5\end{pmatrix} | \begin{pmatrix}-7\\16\\5\end{pmatrix}
\begin{pmatrix}-7\\16\\-5\end{pmatrix} | \begin{pmatrix}-7\\16\\5\end{pmatrix}
\begin{pmatrix}16\\-7\\5\end{pmatrix} | \begin{pmatrix}-7\\16\\5\end{pmatrix}
\left( \begin{array}{rr} 0 & 1 \\ -1 & 0 \end{array} \right) | \begin{pmatrix} 0 & -1 \\ 1 & 0 \end{pmatrix}
""",
    "digits and separators": r"""
1 1/2 | \frac{11}{2}
1, 2 | 12
1~2 | 12
1,23 | 123
1, 234 | 1234
1 0 | 10
\frac{3}{2} | 3\frac{1}{2}
-3\frac12 | -\frac{5}{2}
""",
    "names, relations and lines": r"""
x \ge 5 | x \le 5
x < 5 | x \le 5
x=-5 | 5
-x = 5 | 5
1/x = 5 | 5
x^2 = 25 | 25
2x-y-3=0 | y = 2x + 3
x = 2y + 3 | y = 2x + 3
y = 3 | x = 3
x=3 | y = 3
(x+1)^2+(y-2)^2=9 | (x-1)^2+(y+2)^2=9
(x-1)^2+(y+2)^2=3 | (x-1)^2+(y+2)^2=9
3x-7y=2 | 3x - 7y + 2 = 0
""",
    "roots again": r"""
14.14 | 10\sqrt 2
2\sqrt{3} | 2\sqrt[3]{3}
\sqrt[3]{6} | 2\sqrt[3]{3}
\sqrt{31} | \sqrt{13}
1-\sqrt{3} | \sqrt{3}-1
""",
    "mixed numbers, decimals and powers": r"""
\frac ba | \frac{a}{b}
6.72 \times 10^{-4} | .0000672
0.333 | 1/3
0.33 | 1/3
0.36 | 0.\overline{36}
\frac{1}{6} | 0.\overline{16}
3.2 \times 10^6 | 320000
\frac{2}{1} | \frac{1}{2}
0.38 | \frac{3}{8}
\frac{-1}{-2} | -\frac{1}{2}
""",
    "lists, tuples and intervals": r"""
-1 \pm \sqrt{19} | 1 \pm \sqrt{19}
1 \pm \sqrt{17} | 1 \pm \sqrt{19}
1, 2 | 1,-2
1,-2,3 | 1,-2
3,5 | 3,5,7
3,5,7,9 | 3,5,7
(6,-1,31) | (6,31,-1)
(6,31,1) | (6,31,-1)
(-2, 8) | (8,-2)
8/-2 | (8,-2)
(11,7),(11,7) | (11,7), (7,11)
(11,7),(7,-11) | (11,7), (7,11)
[2,\infty) | (2,\infty)
(-2,7) | x \in [-2,7]
[-2,7) | x \in [-2,7]
x \in [-7,2] | x \in [-2,7]
(-\infty,-1]\cup(3,\infty) | (-\infty,-1)\cup(3,\infty)
(-\infty,-1)\cup(3,\infty] | (-\infty,-1)\cup(3,\infty)
(-\infty,-1)\cap(3,\infty) | (-\infty,-1)\cup(3,\infty)
[0,1] | [0,1)
[0,1) | (0,1)
(2,1) | (1,2)
""",
    "quantities": r"""
15\text{ cm}^2 | 15\text{ cm}
15\text{ kg} | 15\text{ cm}
15\text{ m} | 15\text{ cm}
1.5\% | 15\%
89^\circ | 90^\circ
1800 cents | 18
at least 3 | 3
about 3 | 3
not 3 | 3
3 or more | 3
18 thousand | 18
half of 3 | 3
twice 3 | 3
negative 3 | 3
minus 3 | 3
3 squared | 3
1/3 | 3
3 factorial | 3
3! | 3
3i | 3
3\pi | 3
3e | 3
3^ | 3
3+ | 3
""",
    "signs of Unicode": r"""
−3 | 3
10^{-21} | 10^{-20}
0 | 10^{-20}
10^{-20} | 0
2e-17 | 1e-17
x ≥ 5 | x \le 5
""",
    "polynomials and logarithms": r"""
(x-1)^2 | x^2-1
(3x-2)(2x+3) | 6x^2-5x-6
x^3 - 3x - 6 | x^3 + 3x - 6
3x-4 | -3x+4
x + \frac{1}{2} | \frac{x+1}{2}
3-2i | 3+2i
2+3i | 3+2i
\log_3 2 | \log_2 3
x^2 | 2^{x}
b-a | a-b
X | x
n | n!
\dbinom{5}{1} | 10
""",
    "trigonometry": r"""
\cos 30^\circ | \frac{1}{2}
\frac{\pi}{3} | \frac{\pi}{6}
\sin x^2 | \sin^2 x
(\pi/3, 2) | \left( 2, \frac{\pi}{3} \right)
""",
    "geometry": r"""
25 | 25\pi
78.54 | 25\pi
16\pi-64 | 64-16\pi
4:3 | 3:4
""",
    "number theory": r"""
52_9 | 52_8
53_8 | 52_8
1010_2 | 1100_2
BA_{16} | AB_{16}
12 | 5
""",
    "choices, names and times": r"""
Evan | \text{Evelyn}
Not Evelyn | \text{Evelyn}
odd | \text{even}
neither even | \text{even}
Monday | \text{Friday}
No | \text{Yes}
10:03 | 10:30
10.30 | 10:30
1/3 | 10:30
hyperbola | \text{parabola}
A | \text{A,C}
A,B,D | A,B,C,D
June 2 | \text{June 20}
20 | \text{June 20}
\text{June 20} | 20
""",
    "one number in many ways": r"""
70 | 7
7,0 | 7
7 8 | 7
? | 7
\frac{7}{0} | 7
7/0 | 7
3+4=8 | 7
8=3+4 | 7
7=8 | 7
\approx 7 | 7
6.999999999 | 7
7.0000001 | 7
7 or 8 | 7
7' | 7
seventy | 7
VII | 7
\infty | 7
nan | 7
0 | \emptyset
\{1,2\} | \{1,2,3\}
(1,2) | \{1,2\}
[1,2] | \{1,2\}
6 | 12\frac12
5,5 | 5.5
\pi | 3.14
\pi | \frac{22}{7}
1.000 | 1000
1000 | 1.000
(3,4) | 3,4
(4,3) | (3,4)
(3,4,0) | (3,4)
3+4 | (3,4)
34 | (3,4)
(0.5, 3] | \left(\frac{1}{2},3\right)
""",
    "words, orders and equations": r"""
3 thirds | 3
3 tenths | 3
3 fifths | 3
3 sixths | 3
3 hundredths | 3
3\text{ hundredths} | 3
3\text{ tenths} | 3
3\text{ eighths} | 3
3\text{ factorial} | 3
3 choose 2 | 3
3 mod 7 | 3
3 \bmod 2 | 3
3 out of 5 | 3
3 over 4 | 3
3 million | 3
3\text{ or fewer} | 3
3\text{ at most} | 3
\text{fewer than }3 | 3
\text{at most }3 | 3
\text{square root of }3 | 3
3\text{ cubed} | 3
3\text{ inverse} | 3
\text{does not exist} | 3
\text{undefined} | 3
3\text{ is not the answer} | 3
\text{not }3 | 3
3\text{ times }x | 3
3\text{ if }x>0 | 3
3 minus | 3
3\sqrt{} | 3
\sqrt{}3 | 3
3\cdot | 3
\cdot 3 | 3
3= | 3
==3 | 3
x\to 3 | 3
x\rightarrow3 | 3
3\in x | 3
x\in 3 | 3
3 \cup 4 | 3
|3| | -3
|-3| | -3
(-3) | 3
\overline{3} | 3
3\overline{} | 3
3^0 | 3
3_2 | 3
3\\4 | 3
3 \text{ remainder } 1 | 3
3 R1 | 3
3\text{ r }1 | 3
2.999 | 3
2\overline{9} | 3
\sqrt{1}3 | \sqrt{13}
\frac{1}{2}5 | \frac{12}{5}
\frac{1}{2}5 | \frac{1}{25}
\frac125 | \frac{1}{25}
x^1 0 | x^{10}
\frac{1}{2}x | \frac{1}{2x}
-5\le x<5 | [-5,5]
[-5,5) | (-5,5]
1 | x>1
x>1 | 1
x>1 | x<1
1,2,33 | 1,2,3
1,2,3,3 | 1,2,3
1 2 3 | 1,2,3
123 | 1,2,3
[1,2,3] | 1,2,3
a=2, b=1 | (1,2)
(2,1),(4,3) | (1,2),(3,4)
(1,2,3,4) | (1,2),(3,4)
\frac{\pi}{2}+\pi n | \frac{\pi}{2}+2\pi n
2k+1 | 2n+1
y-x-1 | y=x+1
y=x-1 | y=x+1
x^2+y^2=-1 | x^2+y^2=1
x^2+y^2-1 | x^2+y^2=1
(x+y)^2=1 | x^2+y^2=1
4x^2+9y^2=36 | \frac{x^2}{4}+\frac{y^2}{9}=1
\frac{x^2}{4}-\frac{y^2}{9}=1 | \frac{x^2}{4}+\frac{y^2}{9}=1
1-i | 1+i
(1,2) | 1+2i
7.389 | e^2
\ln 2 | \log 2
1 1 | 11
0,5 | 0.5
0.5 | 0.05
1 .5 | 1.5
1. 5 | 1.5
\pm\sqrt{4} | 2
\sqrt{4} | -2
AB | \text{(A)}
(A),(B) | \text{(A)}
Monday or Tuesday | \text{Monday}
not Monday | \text{Monday}
3 a.m. | 3\text{ p.m.}
3:01 | 3:00
3:0 | 3:00
300 | 3:00
3 | 3:00
5 cm | 5\text{ m}
5 minutes | 5\text{ hours}
5 m/s^2 | 5\text{ m/s}
5 ft | 5\text{ ft}^2
5 feet 3 inches | 5
5\text{ feet } 3\text{ inches} | 5
5^\circ 30' | 5
|x|=5 | 5
\sin x = 5 | 5
x+1 = 6 | 5
x \equiv 5 \pmod 7 | 5
""",
    "names, bounds and parts": r"""
f(3)=5 | f(2)=5
2(x)=5 | 5
f(2x)=5 | 5
f(2)=5 | x=2
2 | f(2)=5
\mathbf{w}=\begin{pmatrix}1\\2\end{pmatrix} | \mathbf{v}=\begin{pmatrix}1\\2\end{pmatrix}
x\in\mathbb{R} | x\in\mathbb{Z}
{1,2} | (1,2)
3:5 | 3:05
3:05 | 3:5
3:2 | 3:20
x<=3 | x \ge 3
x>3 | x \ge 3
1<=x<3 | (1,3)
12\!,\!34 | 12345
3 mil | 3
3 lakh | 3
1 fifth | 1
3\text{ quarters of an hour} | 3
5 cu. ft. | 5\text{ ft}^2
5 cm. 6 | 5
5 . 6 | 5
3 at most | 3
=-3 | 3
= x | 3
3==3 | 3
""",
}


def lines(table):
    """(kind, answer, gold) of each line."""
    for kind, text in table.items():
        for line in text.strip("\n").split("\n"):
            answer, gold = line.rsplit(" | ", 1)
            yield kind, answer, gold


NUMBERS = r"""
2 million | 2000000
$2.5 million dollars | 2500000
2 dozen eggs | 24
2 dozen | 24
3 hundred | 300
5k | 5000
$5k | 5000
18 more apples | 18
18 apples left over | 18
18cm | 18
18 cm^2 | 18
18 km/h | 18
18 m/s^2 | 18
18 / 2 | 9
18/x | none
18^2 | none
$ 18 | 18
18 (eggs) | 18
18-dollar | 18
18 USD | 18
18 $ | 18
-$18 | -18
$-18 | -18
–3 | -3
−3 | -3
\textbf{18} | 18
\text{18 eggs} | 18
Total = 18 | 18
Total cost = $18 | 18
x_1 = 18 | 18
f(x) = 18 | 18
6 * 3 = 18 | 18
$3 + $15 = $18 | 18
6 eggs * 3 = 18 eggs | 18
The answer is 18 | 18
The most that she can buy is 18 | 18
25% | 25
18 dollars per hour | 18
2x = 18 | none
-x = 18 | none
xy = 18 | none
x + 1 = 18 | none
x/2 = 18 | none
3 + 16 = 18 | none
17 = 18 | none
18 = x | none
x <= 18 | none
x >= 18 | none
x != 18 | none
x ≤ 18 | none
x \leq 18 | none
>18 | none
< 18 | none
more than 18 | none
less than 18 | none
fewer than 18 apples | none
at least 18 | none
at most $18 | none
over 18 | none
almost 18 | none
about 18 | none
half of 18 | none
twice 18 | none
18 or more | none
18 and a half | none
18 and a quarter | none
18 apples and oranges | 18
18 times | 18
18 more than Tom | 18
18 squared | none
not 18 | none
18x | none
18n | none
18M | none
= 18 | 18
\frac{36}{2} = 18 | 18
\frac{36}{3} = 18 | none
Profit = $30 - $12 = $18 | 18
Profit = 30 - 13 = 18 | none
A18 | none
18√2 | none
18π | none
√18 | none
18 1/2 | 18.5
18½ | 18.5
18:30 | none
18 and twenty cents | none
36/2 | 18
$18.00 per day | 18
18 dollars and 50 cents | none
18 dollars | 18
18.00 | 18
$18 | 18
18. | 18
\boxed{18} | 18
\boxed 18 | 18
boxed{18} | 18
x = 18 | 18
2 hundred | 200
1,234 | 1234
$1,234.00 | 1234
1,23 | none
12,34 | none
-18 | -18
–18 | -18
−18 | -18
18 eggs | 18
18% | 18
18 percent | 18
18\% | 18
18 miles per hour | 18
18 mph | 18
18-20 | none
18 or 20 | none
17 18 | none
1 8 | none
18 + 2 | none
18 + 2 = 20 | 20
9 x 2 = 18 | 18
three | none
18! | none
180 | 180
$18 per week | 18
$18$ | 18
18 \text{ dollars} | 18
\text{18} | 18
\$18 | 18
USD 18 | 18
€18 | 18
18 hours | 18
18 hours and 30 minutes | none
18 left | 18
18+ | none
no 18 | none
1/2 | 0.5
.5 | 0.5
018 | 18
18 apples and 3 oranges | none
3 oranges and 18 apples | none
x < 18 | none
18 / 0 | none
$18,000 | 18000
18 thousand dollars | 18000
18k | 18000
18 cents | 18
negative 18 | none
minus 18 | none
18 minus | none
18 students. | 18
18 sq ft | 18
18 square feet | 18
18 \text{ cm}^2 | 18
18 m/s | 18
18 pounds | 18
18/1 | 18
36/2 = 18 | 18
36/2 = 19 | none
\frac{36}{2} | 18
18 years old | 18
18° | 18
Janet makes $18 | 18
Janet makes $18 every day | 18
18.0 dollars | 18
18.000 | 18
18,00 | none
18; | 18
(18) | 18
x=18 dollars | 18
total = 18 | 18
square root of 18 | none
square of 18 | none
a third of 18 | none
quarter of 18 | none
percent of 18 | none
factorial of 18 | none
18 factorial | none
18 tenths | none
18 thirds | none
18 hundredths | none
a total of 18 | 18
profit of $18 | 18
no more than 18 | none
fewer than 18 | none
up to 18 | none
nearly 18 | none
neither 18 | none
except 18 | none
not 18 but | none
18 is not the answer | none
18 hundred | 1800
18 bn | 18000000000
18 m | 18
18 K | 18000
18 mil | none
18 mln | 18000000
18 million | 18000000
18B | none
18 lakh | 1800000
18 dozen | 216
18 dozens | 216
18 thousands | 18000
18 millions | 18000000
18 hundreds | 1800
half a dozen | none
1/2 of 18 | none
18 in 20 | none
18 of 20 | none
18, 20 | none
18,20 | none
~18 | none
≈18 | none
\approx 18 | none
\sim 18 | none
18ish | none
18 or so | none
18 at most | none
18 at least | none
18 approximately | none
18 plus tax | none
$18 plus tip | none
18 minus tax | none
18 and change | none
18 eggs and half | none
18 eggs and one orange | none
18 to 20 | none
x_1 = 18, x_2 = 20 | none
a=3, b=18 | none
3 a, 18 | none
x = 18 or x = 3 | none
3√18 | none
18e | none
-18% | -18
+18 | 18
- 18 | -18
1018 | 1018
18:00 | none
18h | 18
18\text{ cm} | 18
18\ \text{cm} | 18
\$18.00 | 18
\$18\text{ per hour} | 18
\text{Janet}=18 | 18
$$18$$ | 18
$18$ dollars | 18
\(18\) | 18
\(18\) dollars | 18
\[18\] | 18
18\\ | 18
\text{18 dollars} | 18
Tom = 18, Bob = 20 | none
Tom has 18 and Bob has 20 | none
3 x 6 = 18 | 18
3 × 6 = 18 | 18
3 \times 6 = 18 | 18
3 * 6 = 18 | 18
3 * 6 = $18 | 18
$3 * 6 = $18 | 18
6 + 6 + 6 = 18 | 18
12 + 6 = 18 = 17 + 2 | none
12+6=19=18 | none
20 - 2 = 18 | 18
54/3 = 18 | 18
54 ÷ 3 = 18 | 18
\frac{54}{3} = 18 | 18
54/4 = 18 | none
= 18 eggs | 18
eggs = 18 | 18
eggs: 18 | 18
18 = 18 | 18
18 = 19 | none
19 = 18 | none
x > 18 | none
18 < x | none
18 > 17 | none
17 < 18 | none
18 != 19 | none
18 ≠ 19 | none
1 eight | none
18 hundred dollars | 1800
18 1 | none
18 20 | none
9/2 | 4.5
18/2 | 9
18/3 | 6
18/0 | none
2 1/2 | 2.5
2 1/2 hours | 2.5
2½ hours | 2.5
-2 1/2 | -2.5
2 3/2 | none
5 1/2 | 5.5
11/2 | 5.5
\frac{1}{2} | 0.5
\frac12 | 0.5
-\frac{1}{2} | -0.5
½ | 0.5
¾ cup | 0.75
18/2/1 | none
1/2/18 | none
36/2x | none
36/2. | 18
36/2.5 | none
36/2,5 | none
$36/2 | 18
36/2 dollars | 18
36/2 apples | 18
36/2 + 1 | none
36/2^1 | none
1 36/2 | none
x = 36/2 | 18
36 / 2 = 18 | 18
36/2 = 18 dollars | 18
18 = 36/2 | 18
19 = 36/2 | none
f(2) = 18 | 18
18 x | none
18 n | none
18 a day | 18
18 ft | 18
18 oz | 18
18 lbs | 18
18 pm | 18
18 of them | 18
18 in total | 18
18 in all | 18
18 to go | 18
18 by noon | 18
18 is the answer | 18
He has 18 | 18
he eats 18 a day | 18
18~\text{cm} | 18
~ 18 | none
18º | 18
18^\circ | 18
18^{\circ} | 18
18^{\circ}\text{C} | 18
18 fifth graders | 18
18 third-graders | 18
a fifth of 18 | none
age of 18 | 18
group of 18 | 18
a total of $18 | 18
cost of 18 | 18
3x6=18 | 18
3 x 7 = 18 | none
3 X $6 = $18 | 18
$3 x 6 = $18 | 18
3x = 18 | none
18 feet at most | none
18 or at least 17 | none
18 at the park | 18
18 dollars in change | 18
20/1 | 20
"""
